"""The sentences of the talk in English and Chinese: seven slides, seven minutes; numbers and findings come from the report's sentences."""

TITLES = {
    "opening": ("What does a token cost, and how sure is that?", "一个词元要花多少能量，有多确定？"),
    "method": ("Measure, compare, then advise", "先测量，再比较，后建议"),
    "strategies": ("Which strategy is cheaper?", "哪种量化策略更省？"),
    "where": ("Where the cost lies", "代价在哪里"),
    "synergy": ("Do strategy and setting act together?", "量化与环境是否协同？"),
    "guidance": ("What to deploy", "如何部署"),
    "closing": ("What to take home", "小结"),
    "opening_loads": ("What does a token of this server cost, and how sure is that?", "这个服务器的一个词元要花多少能量，有多确定？"),
    "loads": ("What each load costs", "每种负载的代价"),
    "waits": ("How long a request waits", "一个请求要等多久"),
    "guidance_loads": ("What follows from it", "由此可知什么"),
}

POINTS = {
    "replicate": ("Replicate: a block, every configuration once, on a fresh load", "重复单位：区组，每个配置一次，重新加载模型"),
    "repeats": ("Replicate: a repeat, as the source states it", "重复单位：来源所给的重复"),
    "replicate_loads": ("Replicate: a block, every load once, in random order", "重复单位：区组，每种负载一次，顺序随机"),
    "stated": ("What the server is and runs is as stated", "服务器是什么、运行什么，均按所述"),
    "paired": ("Ratios paired within blocks; Holm over each table", "比值在区组内配对；每张表用 Holm 校正"),
    "verified": ("What was asked for is verified to be what ran", "核实实际运行的正是所要求的"),
    "not_crossed": ("Strategies were not crossed with a setting: no interaction can be tested.", "量化策略未与环境交叉：无法检验交互。"),
}

SPOKEN = {
    "between": (r", between \1 and \2,", r"（\1 至 \2）"),
    "joules": ("joules", "焦耳"),
    "seconds": ("seconds", "秒"),
}

LARGEST = {
    "shown": ("The largest saving: {name} takes {ratio} of the baseline.", "最大的节省：{name} 只需基线的 {ratio}。"),
    "counted": ("Of {n} comparisons {lower} show a lower cost.", "{n} 个比较中有 {lower} 个证实代价更低。"),
}

SPOKEN_AGAIN = {
    "ours": (
        "Every energy here can be derived again from its raw readings.",
        "这里的每个能量都能由原始读数重新推出。",
    ),
}

PROTOCOL = {
    "ours": (
        "Every configuration runs once, in random order, on a freshly loaded model; ten calls in one process are one replicate, not "
        "ten. What was asked for is verified to be what ran: a silent fallback is an error.",
        "每个配置在重新加载的模型上、以随机顺序运行一次；同一进程里的十次调用只算一次重复，不是十次。我们还核实实际运行的正是所要求的，"
        "悄悄退回别的实现算作错误。",
    ),
    "served": (
        "Every load runs once, in random order; many requests in one window are one replicate, not many. The server is not started anew "
        "between blocks, and what it runs is as stated: its protocol cannot tell.",
        "每种负载以随机顺序运行一次；一个窗口里的许多请求只算一次重复。区组之间服务器不重新启动；它运行什么只能按所述，协议无法核实。",
    ),
    "foreign": (
        "Here the blocks are the repeats that the source states; how they were run is not recorded with the data.",
        "这里的区组是来源所给的重复；数据中没有记录它们是如何运行的。",
    ),
}

SCRIPTS = {
    "opening_loads": (
        "People who run language models behind a server pay for tokens, and wait for them. A figure for the energy of a token means little "
        "without the load under which the token was made. Our question is plain: what does one output token of this server cost at each "
        "load, and how sure is that? {basis} {by_load} On the slides every number has its interval and its number of blocks.",
        "在服务器后面运行大语言模型的人，为词元付费，也等待词元。只说每词元的能量，却不说是在什么负载下，就没有多少意义。我们的问题很简单："
        "这个服务器在每种负载下输出一个词元要花多少，这个答案有多确定？{basis}{by_load}幻灯片上的每个数都有区间和区组数。",
    ),
    "opening": (
        "People who deploy language models are told that quantization saves a quarter of the energy, and that one card is the efficient "
        "one. Published figures contradict each other. Our question is plain: what does one output token cost under each strategy, on "
        "this hardware, and how sure is that? {basis} {best} On the slides every number has its interval and its number of replicates. "
        "Where the data do not decide, I will say so.",
        "部署大语言模型的人常听说：量化能省四分之一的能量，某块显卡最省电。已发表的数值互相矛盾。我们的问题很简单：在这样的硬件上，每种"
        "量化策略下输出一个词元要花多少，这个答案有多确定？{basis}{best}幻灯片上的每个数都有区间和重复次数；数据不能判定之处，我会直说。",
    ),
    "method": (
        "Here is the framework. A configuration is a choice of strategy, hardware, batch or load, and task. Measuring it gives windows; "
        "windows become energy per token and, where a task is scored, score per watt hour. These feed comparisons, and comparisons feed "
        "guidance. Three rules keep it honest. First, the replicate is a block. {protocol} Second, we compare within blocks: drift hits "
        "both alike, and on one card the gain of its sensor cancels in the ratio. Third, we correct for the number of comparisons, and "
        "we say “no difference” only after an equivalence test with enough power. {boundary} What was not measured stays empty; it is "
        "never a zero.",
        "先看框架。一个配置就是策略、硬件、批大小或负载、任务的一种选择。测量得到窗口，窗口变成每词元的能量；有得分的任务还能算出每瓦时得分。"
        "它们进入比较，比较再给出建议。三条规则保证可信。第一，重复单位是区组。{protocol}第二，在区组内比较：漂移对双方影响相同；在同一"
        "张卡上，传感器的增益误差在比值中抵消。第三，按比较的次数校正；只有功效足够的等效检验成立，才说“无差别”。{boundary}没有测的留空"
        "，绝不写成零。",
    ),
    "strategies": (
        "The first result: the strategies. Each line is one comparison with the baseline; to the left of one is cheaper. {counts} Only an "
        "interval inside the grey band could show two strategies to be equivalent. Not decided does not mean no difference: it means that "
        "more blocks are needed. The report has the speed beside the cost.",
        "第一个结果：量化策略。每条线是与基线的一个比较，一的左边表示更省。{counts}只有落在灰色带内的区间才能证实等效。未定并不表示没有差"
        "别，而是需要更多区组。报告中速度列在代价旁边。",
    ),
    "many_strategies": (
        "The first result: the strategies, each over all settings in which it was compared; below one is cheaper. {counts} Not decided "
        "does not mean no difference: it means that more blocks are needed.",
        "第一个结果：量化策略，每种取其所有可比环境的平均，小于一表示更省。{counts}未定并不表示没有差别，而是需要更多区组。",
    ),
    "no_strategies": (
        "The first result would be a comparison of strategies. {counts} So I show none. A comparison needs two strategies in the same "
        "setting and the same blocks, because machines drift: figures from two days or two machines differ for reasons that have nothing "
        "to do with quantization. What these data do carry is the cost of each configuration by itself, on the next slide.",
        "第一个结果本应是量化策略的比较。{counts}所以这里没有比较。比较需要同样环境、同样区组里的两种策略，因为机器会漂移：两天或两台机器上"
        "的数值，会因与量化无关的原因而不同。这些数据能给出的，是下一页上每个配置自身的代价。",
    ),
    "loads": (
        "The first result: what each load costs. A server that batches serves many requests with one pass over its weights, so the cost "
        "of a token is no property of the server alone: it needs its load beside it. {by_load} {untested} To the left is the energy of a "
        "token, to the right that of a request.",
        "第一个结果：每种负载的代价。会合并批次的服务器读一遍权重就能服务多个请求，所以一个词元的代价不是服务器单独的性质，必须与负载同列"
        "。{by_load}{untested}左图为每词元的能量，右图为每请求的能量。",
    ),
    "waits": (
        "The second result: how long a request waits. What sharing saves may have to be paid for by waiting, so the two belong together. "
        "{waits} {failures} A wait counts from the moment a request was due, not from when it was sent: otherwise a queue would hide in "
        "the client. These times were measured with a clock, wherever the energy comes from.",
        "第二个结果：一个请求要等多久。共享省下的，可能要用等待来付，所以两者要一起看。{waits}{failures}等待从请求应发出的时刻算起，而不是从"
        "实际发出算起：否则队列会藏在客户端里。这些时间由时钟实测，与能量的来源无关。",
    ),
    "where": (
        "The second result. {range} {contrast} {gates} A ratio within one machine is far surer than its joules.",
        "第二个结果。{range}{contrast}{gates}同一台机器上的比值远比焦耳数可靠。",
    ),
    "synergy": (
        "The third result: does the saving of a strategy depend on where it runs? Energy multiplies: if a strategy saves a fifth, and a "
        "setting halves the cost, then independence means eighty per cent of one half, forty per cent of the cost, not thirty. Here "
        "independence is the line at one. {synergy} An interval that crosses the line shows no synergy, and excludes only what lies "
        "outside it.",
        "第三个结果：策略省下多少，是否取决于在哪里运行？能量是相乘的。若策略省五分之一，而环境使代价减半，那么相互独立意味着一半的八成"
        "，即代价的四成，而不是三成。图中值为一的线就是相互独立。{synergy}区间跨过这条线，就没有证实协同，也只排除了区间以外的大小。",
    ),
    "one_setting": (
        "A third question would be whether the saving of a strategy depends on where it runs. Energy multiplies: if a strategy saves a "
        "fifth, and a setting halves the cost, then independence means eighty per cent of one half, forty per cent of the cost, not "
        "thirty. These data cannot answer it: that takes two strategies in two settings, crossed in the same blocks. So nothing is claimed "
        "about it here.",
        "第三个问题本应是：策略省下多少，是否取决于在哪里运行？能量是相乘的。若策略省五分之一，而环境使代价减半，那么相互独立意味着一半"
        "的八成，即代价的四成，而不是三成。这些数据不能回答：那需要两种策略与两种环境在同样的区组里交叉。所以这里对此不作任何陈述。",
    ),
    "guidance": (
        "What should you deploy? These rules are computed, not chosen: for each setting the cheapest of the steady strategies. {rules} "
        "{scores} {reach} Before you carry a rule over to other hardware, to a larger model or to longer texts, measure there.",
        "那么该部署什么？这些规则是算出来的，不是挑出来的：对每种环境，取稳定策略中代价最低的。{rules}{scores}{reach}要把规则用到别的硬件、"
        "更大的模型或更长的文本之前，请先在那里测量。",
    ),
    "matrix": (
        "What should you deploy? This table is computed, not chosen: for each scenario the best of the combinations that were steady. "
        "{lowest} {scores} {reach} Before you carry a choice over to other hardware, to a larger model or to longer texts, measure there.",
        "那么该部署什么？这张表是算出来的，不是挑出来的：每种场景取稳定组合中最好的。{lowest}{scores}{reach}要把选择用到别的硬件、更大的模"
        "型或更长的文本之前，请先在那里测量。",
    ),
    "no_guidance": (
        "What should you deploy? These data do not say. {rules} {scores} A rule needs configurations whose cost is the same from block to "
        "block, to five per cent; then the cheapest has a probability of being the cheapest. Without that, naming one would be a guess "
        "with a number on it. More blocks, or a quieter machine, would change this.",
        "那么该部署什么？这些数据没有答案。{rules}{scores}一条规则需要各区组之间代价相差不超过百分之五的配置；那样，最便宜者才有一个“确实最"
        "便宜”的概率。没有这一点，指出任何一个都只是带数字的猜测。更多的区组或更安静的机器会改变这一点。",
    ),
    "guidance_loads": (
        "What follows from it? No choice of a strategy: the rows of a server are loads, and loads are not chosen, they come. What can be "
        "chosen is how many requests may share a pass, and these curves price that choice: the energy of a token on one, the wait for it "
        "on the other. {scores} They hold for this server, this model and these lengths. Before you carry them over to others, measure "
        "there.",
        "由此可知什么？不是选择哪种策略：服务器的各行是负载，而负载不是选择的，是到来的。能选择的是允许多少请求共享一遍计算，这些曲线正给出"
        "它的价格：一条是每词元的能量，一条是为此的等待。{scores}它们只对这个服务器、这个模型和这些长度成立。推及其他之前，请先在那里测量。",
    ),
    "closing_loads": ("To sum up. {by_load} {basis} {again} Thank you.", "小结：{by_load}{basis}{again}谢谢。"),
    "closing": ("To sum up. {counted} {largest} {basis} {again} Thank you.", "小结：{counted}{largest}{basis}{again}谢谢。"),
}

SHORT_BASIS = {
    "measured": ("Energy was measured.", "能量为实测。"),
    "estimated": ("Energy was estimated, not measured.", "能量为估算，并非实测。"),
    "simulated": ("Nothing was measured: this is a simulation.", "没有实测：这是模拟。"),
    "published": ("These are published figures, not ours.", "这是他人发表的数值。"),
    "predicted": ("Energy was predicted, not measured.", "能量为预测，并非实测。"),
}
