"""The sentences of the report in English and Chinese; the numbers are filled in by `sections`.

Each entry is a pair (English, Chinese). A sentence is used only where a table carries it.
"""

from eai.errors import UserError

LANGUAGES = ("en", "zh")

BASIS = {
    "measured": ("Energy was **measured** by a sensor.", "能量由传感器**实测**。"),
    "stated": ("Energy was **measured** by a sensor, as its source states.", "据来源所述，能量由传感器**实测**。"),
    "estimated": (
        "**No energy was measured here.** Energy is estimated: CPU time × a stated power of one thread. Ratios are ratios of CPU time; "
        "absolute joules are good to a factor of about two, and say nothing about a GPU.",
        "**此处未实测能量**。能量为估算值：CPU 时间 × 每线程的给定功率。比值即 CPU 时间之比；焦耳的绝对值只在约两倍以内可信，且不能推及 "
        "GPU。",
    ),
    "simulated": (
        "**Nothing was measured here.** The energies are simulated from planted effects.",
        "**此处没有任何实测**。能量由预设效应模拟得到。",
    ),
    "published": (
        "**Not our measurement.** The energies are figures that others published.",
        "**并非我们的测量**。能量为他人发表的数值。",
    ),
    "predicted": ("**Not measured.** The energies are predicted.", "**并非实测**。能量为预测值。"),
}

BASIS_WORD = {
    "measured": ("measured", "实测"),
    "estimated": ("estimated", "估算"),
    "simulated": ("simulated", "模拟"),
    "published": ("published", "发表值"),
    "predicted": ("predicted", "预测"),
}

COST = {
    "measured": ("energy per output token", "每输出词元的能量"),
    "estimated": ("estimated energy per output token", "每输出词元的估算能量"),
    "simulated": ("simulated energy per output token", "每输出词元的模拟能量"),
    "published": ("published energy per output token", "每输出词元的发表能量"),
    "predicted": ("predicted energy per output token", "每输出词元的预测能量"),
}

BOUNDARY = {
    "gpu": ("the GPU's board (host, fans and power supply not included)", "GPU 板卡（不含主机、风扇与电源）"),
    "cpu_package": ("the processor (board, fans and power supply not included)", "处理器（不含主板、风扇与电源）"),
    "dram": ("the memory modules alone", "仅内存模组"),
    "machine": ("the whole machine", "整机"),
}

OUTCOME = {
    "lower": ("lower, shown", "更低（已证实）"),
    "higher": ("higher, shown", "更高（已证实）"),
    "equivalent": ("equivalent", "等效"),
    "inconclusive": ("not decided", "未定"),
    "not_testable": ("not testable", "不可检验"),
}

FACTOR = {
    "gpu": ("hardware", "硬件"),
    "model": ("model", "模型"),
    "weights": ("weights", "权重"),
    "quantization": ("strategy", "量化策略"),
    "batch_size": ("batch size", "批大小"),
    "input_tokens": ("input tokens", "输入词元"),
    "output_tokens": ("output tokens", "输出词元"),
    "task": ("task", "任务"),
}

HEADS = {
    "title": ("Energy of LLM inference: experiment {experiment}", "大语言模型推理的能耗：实验 {experiment}"),
    "abstract": ("In short", "摘要"),
    "setup": ("What was measured, and on what", "测了什么、在什么上测"),
    "method": ("How", "方法"),
    "results": ("Results", "结果"),
    "cost": ("Cost per token", "每词元的代价"),
    "ratios": ("Against the baseline", "与基线相比"),
    "contrast": ("By {factor}", "按{factor}"),
    "synergy": ("Strategy and {factor} together", "量化策略与{factor}的交互"),
    "scores": ("Scores", "得分"),
    "steady": ("Was it steady?", "实验是否稳定？"),
    "guidance": ("What to deploy, from these data alone", "仅凭这些数据如何部署"),
    "limits": ("Limits", "局限"),
    "again": ("To do it again", "如何重现"),
}

SENTENCES = {
    "scope": (
        "{configurations} configurations: {strategies}; models: {models}; hardware: {gpus}; {blocks} blocks at most, {windows} usable "
        "windows of {tried}.",
        "共 {configurations} 个配置：{strategies}；模型 {models}；硬件 {gpus}；至多 {blocks} 个区组，{tried} 个窗口中 {windows} 个可用。",
    ),
    "boundary": ("Energy covers {boundary}, {kind}.", "能量范围：{boundary}，{kind}。"),
    "gross": ("idle power included", "含空闲功率"),
    "net": ("idle power taken off", "已扣除空闲功率"),
    "counts": (
        "Of {n} comparisons with the baseline ({baseline}), {lower} show a lower {cost}, {higher} a higher one, {equivalent} "
        "equivalence within ±{margin} %; {inconclusive} are not decided by these data, and {not_testable} could not be tested.",
        "与基线（{baseline}）的 {n} 个比较中：{lower} 个证实{cost}更低，{higher} 个更高，{equivalent} 个在 ±{margin} % 内等效；"
        "{inconclusive} 个这些数据不能判定，{not_testable} 个无法检验。",
    ),
    "no_comparison": ("There is nothing to compare: only the baseline was measured.", "没有可比较者：只测了基线。"),
    "best": (
        "The largest shown saving: {name}, × {ratio} of the baseline's {cost} (95 % interval, n = {n} paired blocks).",
        "已证实的最大节省：{name}，为基线{cost}的 {ratio} 倍（95 % 区间，n = {n} 对区组）。",
    ),
    "no_best": ("No saving was shown.", "没有证实任何节省。"),
    "machine": ("Machine: {cpu}, {cores} cores, {memory} GB{gpu}.", "机器：{cpu}，{cores} 核，{memory} GB{gpu}。"),
    "versions": ("Software: {versions}.", "软件：{versions}。"),
    "meter": ("Meter: {meter}.", "测量方式：{meter}。"),
    "recorded": ("Recorded with the data: {lines}.", "随数据记录（英文原文）：{lines}。"),
    "no_provenance": ("No provenance was recorded: machine and software are unknown.", "没有来源记录：机器与软件未知。"),
    "excluded": ("Left out: {lines}.", "未使用：{lines}。"),
    "nothing_excluded": ("No window was left out.", "没有窗口被剔除。"),
    "replicate": (
        "The replicate is a block: every configuration once, in random order, on a fresh load. Windows of one block are averaged first. "
        "Intervals are 95 % t intervals of block means on the log scale.",
        "重复单位是区组：每个配置一次、随机顺序、重新加载模型。同一区组的窗口先取平均。区间为区组均值在对数尺度上的 95 % t 区间。",
    ),
    "replicate_foreign": (
        "The replicate is a block: a repeat as the source states it. How the repeats were run is not recorded with the data. Windows of "
        "one block are averaged first. Intervals are 95 % t intervals of block means on the log scale.",
        "重复单位是区组，即来源所给的重复；数据中没有记录它们是如何运行的。同一区组的窗口先取平均。区间为区组均值在对数尺度上的 95 % t "
        "区间。",
    ),
    "no_scores_short": ("No task score was measured, so nothing is said about quality.", "没有测量任务得分，因此不谈质量。"),
    "tests": (
        "Ratios are paired within blocks and tested by a t test on log ratios, adjusted by Holm over each table. “No difference” is "
        "said only after an equivalence test with enough power; otherwise the answer is “not decided”. An interval that leaves out 1 "
        "may still be “not decided”: the correction asks more of each of many comparisons.",
        "比值在区组内配对，对数比值作 t 检验，每张表内用 Holm 校正。只有等效检验成立且功效足够才说“无差别”，否则答案是“未定”。区间不含 "
        "1 仍可能“未定”：比较越多，校正对每一个要求越高。",
    ),
    "range": (
        "The {cost} runs from {low} ({low_name}) to {high} ({high_name}).",
        "{cost}从 {low}（{low_name}）到 {high}（{high_name}）。",
    ),
    "gates": (
        "{ok} configurations were steady (spread across blocks up to 2 %), {noisy} noisy (up to 5 %, or one block), {rejected} not "
        "steady enough for an absolute number; paired ratios may still hold.",
        "{ok} 个配置稳定（区组间变异不超过 2 %），{noisy} 个有噪声（不超过 5 %，或仅一个区组），{rejected} 个不足以给出绝对值；其配对比"
        "值仍可能成立。",
    ),
    "undecided": (
        "Not decided: {names}. That is not “no difference”: more blocks would be needed.",
        "未定：{names}。这不等于“无差别”，需要更多区组。",
    ),
    "untestable": ("Not testable: {names}.", "不可检验：{names}。"),
    "contrast": (
        "Against {factor} {reference}, everything else the same: the ratio lies between {low} and {high} (point estimates of {n} "
        "pairs); {lower} of them are shown to be lower, {higher} higher.",
        "其余不变，相对于{factor} {reference}：比值在 {low} 与 {high} 之间（{n} 对的点估计）；其中 {lower} 个证实更低，{higher} 个更高。",
    ),
    "synergy": (
        "If strategy and {factor} just multiply, the factor here is 1. {shown} of {n} are shown to differ from 1 after correction; "
        "{testable} could be tested.",
        "若量化策略与{factor}只是相乘，此处的因子为 1。校正后 {n} 个中 {shown} 个证实不为 1；{testable} 个可以检验。",
    ),
    "no_scores": (
        "No task score was measured: nothing is said about accuracy, EOR or TWEOR. A cheaper strategy may be a worse one.",
        "没有测量任务得分：对准确率、EOR、TWEOR 不作任何陈述。更便宜的策略可能质量更差。",
    ),
    "steady": (
        "Of {n} possible disturbances that could be tested, {shown} were shown: {names}. {outliers} windows stand out; none was dropped.",
        "在可检验的 {n} 种干扰中，证实 {shown} 种：{names}。有 {outliers} 个窗口突出；均未剔除。",
    ),
    "none": ("none", "无"),
    "rule": (
        "{where}: **{strategy}** has the lowest {cost}{condition}; probability that it is the lowest of the steady ones measured: "
        "{confidence}.",
        "{where}：**{strategy}** 的{cost}最低{condition}；它在所测的稳定配置中最低的概率：{confidence}。",
    ),
    "rules_counted": (
        "**{strategy}** has the lowest {cost} in {k} of {n} settings (hardware, model, length, task, range of batch sizes); the least "
        "of its probabilities there: {confidence}.",
        "在 {n} 种环境（硬件、模型、长度、任务、批大小范围）中，**{strategy}** 在 {k} 种里{cost}最低；其中最小的概率：{confidence}。",
    ),
    "rule_batches": (" from batch {low} to {high}", "（批大小 {low} 到 {high}）"),
    "rule_batch": (" at batch {low}", "（批大小 {low}）"),
    "guidance_limit": (
        "These rules hold for what was measured here; they carry over to no other hardware, model or length.",
        "这些规则只对此处所测成立，不能推及其他硬件、模型或长度。",
    ),
    "no_rule": ("No rule: no configuration is steady enough.", "没有规则：没有足够稳定的配置。"),
    "one_level": ("{factor}: only {level}.", "{factor}：只有 {level}。"),
    "few_blocks": (
        "{n} blocks at most: intervals are wide, and small differences cannot be shown.",
        "至多 {n} 个区组：区间较宽，小差别无法证实。",
    ),
    "random_weights": (
        "Weights are random: energy and speed are representative of the shapes, scores are not measured.",
        "权重是随机的：能量与速度代表其形状，得分未测。",
    ),
    "one_machine": (
        "{jobs} job(s): another card or machine of the same kind may differ by its sensor's gain and its own make.",
        "{jobs} 个作业：同型号的另一张卡或另一台机器可能因传感器增益与个体差异而不同。",
    ),
    "largest": (
        "The largest of several savings was picked out after the fact: a repetition will on average find it a little smaller.",
        "最大的节省是事后挑出的：重复实验时平均会略小。",
    ),
    "figure": (
        "n = {blocks} blocks a point. Bars: 95 % t interval on the log scale. Basis: {basis}.",
        "每点 n = {blocks} 个区组。误差线：95 % t 区间（对数尺度）。依据：{basis}。",
    ),
    "figures_english": ("", "图中文字与策略名为英文。"),
    "again": (
        "`eai replay {experiment}` derives every energy again from its raw readings; `eai report {experiment}` writes this page again.",
        "`eai replay {experiment}` 由原始读数重新推出每个能量；`eai report {experiment}` 重新写出本页。",
    ),
    "again_foreign": ("`eai report {experiment}` writes this page again.", "`eai report {experiment}` 重新写出本页。"),
    "cut": ("first {{shown}} of {{all}} rows; the whole table is {table}.csv", "前 {{shown}} 行，共 {{all}} 行；全表见 {table}.csv"),
}

CAPTIONS = {
    "strategies": (
        "Geometric mean of the ratios over strata with its 95 % interval over strata; in how many strata the energy is shown to be "
        "lower / higher.",
        "各层比值的几何平均及其在各层间的 95 % 区间；能量被证实更低 / 更高的层数。",
    ),
    "heatmap": ("{cost} by hardware and strategy, geometric mean over complete strata.", "{cost}：硬件 × 策略，完整各层的几何平均。"),
    "setup": ("The factors and their levels.", "因素及其水平。"),
    "cost": ("{cost} and throughput with 95 % intervals; n: blocks.", "{cost}与吞吐量，95 % 区间；n 为区组数。"),
    "ratios": (
        "Ratio of {cost} to the baseline's, 95 % interval, p after Holm's correction.",
        "{cost}与基线之比，95 % 区间，p 经 Holm 校正。",
    ),
    "contrast": ("Ratio of {cost} to that at {factor} {reference}.", "{cost}与{factor} {reference} 时之比。"),
    "synergy": (
        "Ratio to the baseline there, at the reference, and their quotient (synergy): below 1 the strategy saves more there.",
        "该处与参考处对基线的比值及其商（协同）：小于 1 表示该策略在该处省得更多。",
    ),
    "steady": ("Relative effect of possible disturbances on the energy per token.", "可能的干扰对每词元能量的相对影响。"),
    "scores": (
        "Scores, EOR and TWEOR with 95 % intervals; energy and time are those of the task as run.",
        "得分、EOR 与 TWEOR，95 % 区间；能量与时间为所运行任务的值。",
    ),
}

DISTURBANCE = {
    "a window later in its block": "在区组中晚一个窗口",
    "a model load later in its block": "在区组中晚一次模型加载",
    "a degree Celsius more": "温度高 1 摄氏度",
    "a second of warm-up more": "预热长 1 秒",
    "the block before (lag-one autocorrelation)": "前一区组（一阶自相关）",
}

COLUMNS = {
    "strategy": ("strategy", "策略"),
    "speed": ("throughput ratio", "吞吐量比值"),
    "strata": ("strata", "层数"),
    "shown": ("lower / higher", "更低 / 更高"),
    "configuration": ("configuration", "配置"),
    "cost": ("J per token", "J/词元"),
    "throughput": ("tok/s", "词元/秒"),
    "gate": ("gate", "门限"),
    "n": ("n", "n"),
    "ratio": ("ratio", "比值"),
    "p": ("p (Holm)", "p（Holm）"),
    "outcome": ("outcome", "结论"),
    "factor": ("factor", "因素"),
    "levels": ("levels", "水平"),
    "at_level": ("ratio there", "该处比值"),
    "at_reference": ("at {reference}", "{reference} 处"),
    "synergy": ("synergy", "协同"),
    "disturbance": ("disturbance", "干扰"),
    "effect": ("effect", "影响"),
    "score": ("score", "得分"),
    "eor": ("EOR [1/Wh]", "EOR [1/Wh]"),
    "tweor": ("TWEOR [1/(Wh s)]", "TWEOR [1/(Wh s)]"),
}


def say(words: dict[str, tuple[str, str]], key: str, language: str, **values: object) -> str:
    """The sentence of `words` in `language` (en or zh), filled in. Raises UserError for another language."""
    return words[key][place(language)].format(**values) if values else words[key][place(language)]


def place(language: str) -> int:
    """Which of a pair is meant. Raises UserError for a language that is not one of LANGUAGES."""
    if language not in LANGUAGES:
        raise UserError(f"language '{language}'", f"one of {', '.join(LANGUAGES)}")
    return LANGUAGES.index(language)


def joined(items: list, language: str) -> str:
    """The items in a row, separated as the language does."""
    return ("、" if place(language) else ", ").join(str(item) for item in items)


def both(language: str, *sentences: str) -> str:
    """Sentences in a row: Chinese ones need no space between them."""
    return ("" if place(language) else " ").join(filter(None, sentences))
