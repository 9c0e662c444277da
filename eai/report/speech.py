"""The sentences of the talk in English and Chinese: seven slides, seven minutes; numbers and findings come from the report's sentences."""

TITLES = {
    "opening": ("What does a token cost, and how sure is that?", "一个词元要花多少能量，有多确定？"),
    "method": ("Measure, compare, then advise", "先测量，再比较，后建议"),
    "strategies": ("Which strategy is cheaper?", "哪种量化策略更省？"),
    "where": ("Where the cost lies", "代价在哪里"),
    "synergy": ("Do strategy and setting act together?", "量化与环境是否协同？"),
    "guidance": ("What to deploy", "如何部署"),
    "closing": ("What to take home", "小结"),
}

POINTS = {
    "replicate": ("Replicate: a block, every configuration once, on a fresh load", "重复单位：区组，每个配置一次，重新加载模型"),
    "repeats": ("Replicate: a repeat, as the source states it", "重复单位：来源所给的重复"),
    "paired": ("Ratios paired within blocks; Holm over each table", "比值在区组内配对；每张表用 Holm 校正"),
    "verified": ("What was asked for is verified to be what ran", "核实实际运行的正是所要求的"),
    "not_one_factor": ("Only one setting was measured: an interaction cannot be tested.", "只测了一种环境：无法检验交互。"),
}

SPOKEN_AGAIN = {
    "ours": (
        "Every energy here can be derived again from its raw readings, and the whole experiment repeated with one command.",
        "这里的每个能量都能由原始读数重新推出，整个实验用一条命令就能重做。",
    ),
}

PROTOCOL = {
    "ours": (
        "Every configuration runs once, in random order, on a freshly loaded model; ten calls in one process are one replicate, not "
        "ten. What was asked for is verified to be what ran: a silent fallback is an error.",
        "每个配置在重新加载的模型上、以随机顺序运行一次；同一进程里的十次调用只算一次重复，不是十次。我们还核实实际运行的正是所要求的，"
        "悄悄退回别的实现算作错误。",
    ),
    "foreign": (
        "Here the blocks are the repeats that the source states; how they were run is not recorded with the data.",
        "这里的区组是来源所给的重复；数据中没有记录它们是如何运行的。",
    ),
}

SCRIPTS = {
    "opening": (
        "People who deploy language models are told that quantization saves a quarter of the energy, and that one card is the efficient "
        "one. Published figures contradict each other. Our question is plain: what does one output token cost under each strategy, on "
        "this hardware, and how sure is that? {basis} {best} Every number has its interval and its number of replicates. Where the data "
        "do not decide, I will say so.",
        "部署大语言模型的人常听说：量化能省四分之一的能量，某块显卡最省电。已发表的数值互相矛盾。我们的问题很简单：在这样的硬件上，每种"
        "量化策略下输出一个词元要花多少，这个答案有多确定？{basis}{best}接下来的每个数都有区间和重复次数；数据不能判定之处，我会直说。",
    ),
    "method": (
        "Here is the framework. A configuration is a choice of strategy, hardware, batch size and task. Measuring it gives windows; "
        "windows become energy per token and, where a task is scored, score per watt hour. These feed comparisons, and comparisons feed "
        "guidance. Three rules keep it honest. First, the replicate is a block. {protocol} Second, we compare within blocks: drift hits "
        "both alike, and on one card the gain of its sensor cancels in the ratio. Third, we correct for the number of comparisons, and "
        "we say “no difference” only after an equivalence test with enough power. {boundary} What was not measured stays empty; it is "
        "never a zero.",
        "先看框架。一个配置就是策略、硬件、批大小和任务的一种选择。测量得到窗口，窗口变成每词元的能量；有得分的任务还能算出每瓦时得分。"
        "它们进入比较，比较再给出建议。三条规则保证可信。第一，重复单位是区组。{protocol}第二，在区组内比较：漂移对双方影响相同；在同一"
        "张卡上，传感器的增益误差在比值中抵消。第三，按比较的次数校正；只有功效足够的等效检验成立，才说“无差别”。{boundary}没有测的留空"
        "，绝不写成零。",
    ),
    "strategies": (
        "The first result: the strategies. Each line is one comparison with the baseline; to the left of one is cheaper. {counts} The "
        "grey band is where we would call two strategies equivalent. A point that is not decided does not mean that there is no "
        "difference: it means that more blocks are needed. And speed stands beside cost, because a strategy that draws less power and "
        "takes longer can cost more.",
        "第一个结果：量化策略。每条线是与基线的一个比较，一的左边表示更省。{counts}灰色带内我们才会说两种策略等效。未定的点并不表示没有"
        "差别，而是需要更多区组。速度与代价要一起看：功率更低但耗时更长的策略，可能反而更费。",
    ),
    "where": (
        "The second result: where the cost lies. {range} {contrast} {gates} Ratios and absolute numbers are two questions: a ratio "
        "within one machine is far surer than its joules.",
        "第二个结果：代价在哪里。{range}{contrast}{gates}比值与绝对值是两个问题：同一台机器上的比值远比焦耳数可靠。",
    ),
    "synergy": (
        "The third result: does the saving of a strategy depend on where it runs? Energy multiplies. If a strategy saves a fifth, and a "
        "setting halves the cost, then independence means eighty per cent of one half: forty per cent of the cost, not thirty. On this "
        "picture independence is the line at one. {synergy} An interval that crosses the line shows no synergy, and it excludes only "
        "what lies outside it. Claims of a multiplier need an interval that stays clear of one, on the side that saves.",
        "第三个结果：策略省下多少，是否取决于在哪里运行？能量是相乘的。若策略省五分之一，而环境使代价减半，那么相互独立意味着一半的八成"
        "，即代价的四成，而不是三成。图中，独立就是一那条线。{synergy}区间跨过这条线，就没有证实协同，也只排除了区间以外的大小。要说“倍"
        "增”，区间必须完全落在更省的一侧。",
    ),
    "guidance": (
        "What should you deploy? These rules are computed, not chosen: for each setting, the strategy with the lowest cost among the "
        "steady ones, with the probability that it really is the lowest of those. {rules} {scores} {reach} Before you carry a rule over "
        "to other hardware, to a larger model or to longer texts, measure there. The same repository does that with one command.",
        "那么该部署什么？这些规则是算出来的，不是挑出来的：对每种环境，取稳定配置中代价最低的策略，并给出它确实最低的概率。"
        "{rules}{scores}{reach}要把规则用到别的硬件、更大的模型或更长的文本之前，请先在那里测量；同一个仓库用一条命令就能做到。",
    ),
    "closing": ("To sum up. {best} {basis} {again} Thank you.", "小结：{best}{basis}{again}谢谢。"),
}

SHORT_BASIS = {
    "measured": ("Energy was measured.", "能量为实测。"),
    "estimated": ("Energy was estimated, not measured.", "能量为估算，并非实测。"),
    "simulated": ("Nothing was measured: this is a simulation.", "没有实测：这是模拟。"),
    "published": ("These are published figures, not ours.", "这是他人发表的数值。"),
    "predicted": ("Energy was predicted, not measured.", "能量为预测，并非实测。"),
}
