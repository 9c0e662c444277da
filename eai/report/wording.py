"""The sentences of the report in English and Chinese; the numbers are filled in by `sections`, single words stand in `labels`.

Each entry is a pair (English, Chinese). A sentence is used only where a table carries it.
"""

from eai.errors import UserError
from eai.report.guidance_wording import GUIDANCE
from eai.report.labels import (
    BASIS_WORD,
    BOUNDARY,
    CAPTIONS,
    COLUMNS,
    COST,
    DISTURBANCE,
    FACTOR,
    HEADS,
    OBJECTIVES,
    OUTCOME,
    PHASE,
    SCENARIO,
    UNIT,
)
from eai.report.load_wording import LOADS

__all__ = [
    "BASIS",
    "BASIS_WORD",
    "BOUNDARY",
    "CAPTIONS",
    "COLUMNS",
    "COST",
    "DISTURBANCE",
    "FACTOR",
    "GUIDANCE",
    "HEADS",
    "LANGUAGES",
    "LOADS",
    "OBJECTIVES",
    "OUTCOME",
    "PHASE",
    "SCENARIO",
    "SENTENCES",
    "UNIT",
    "both",
    "joined",
    "place",
    "say",
]
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

SENTENCES = GUIDANCE | {
    "scope": (
        "{configurations} configurations: {strategies}; models: {models}; hardware: {gpus}; blocks: {blocks} at most; usable "
        "windows: {windows} of {tried}.",
        "共 {configurations} 个配置：{strategies}；模型 {models}；硬件 {gpus}；至多 {blocks} 个区组，{tried} 个窗口中 {windows} 个可用。",
    ),
    "boundary": ("Energy covers {boundary}, {kind}.", "能量范围：{boundary}，{kind}。"),
    "busy": ("while its threads were busy: idle power is no part of it", "仅计线程忙碌时，不含空闲功率"),
    "gross": ("idle power included", "含空闲功率"),
    "net": ("idle power taken off", "已扣除空闲功率"),
    "counts": (
        "Of {n} comparisons with the baseline ({baseline}), {lower} show a lower {cost}, {higher} a higher one, {equivalent} "
        "equivalence within ±{margin} %; {inconclusive} are not decided by these data, and {not_testable} could not be tested.",
        "与基线（{baseline}）的 {n} 个比较中：{lower} 个证实{cost}更低，{higher} 个更高，{equivalent} 个在 ±{margin} % 内等效；"
        "{inconclusive} 个这些数据不能判定，{not_testable} 个无法检验。",
    ),
    "no_comparison": ("There is nothing to compare: only the baseline was measured.", "没有可比较者：只测了基线。"),
    "no_baseline": (
        "The baseline ({baseline}) was not measured, so strategies are not compared.",
        "没有测量基线（{baseline}），因此不比较量化策略。",
    ),
    "best": (
        "The largest shown saving: {name}, × {ratio} of the baseline's {cost} (95 % interval, n = {n} paired blocks).",
        "已证实的最大节省：{name}，为基线{cost}的 {ratio} 倍（95 % 区间，n = {n} 对区组）。",
    ),
    "nothing_tested": (
        "Nothing could be tested, so neither a saving nor its absence is shown.",
        "没有可检验者，因此既没有证实节省，也没有证实没有节省。",
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
    "scores_short": (
        "Of {n} task scores, over {items} items each, {lower} are shown to be lower than the baseline's; {inconclusive} are not decided.",
        "{n} 个任务得分（每个 {items} 道题）中有 {lower} 个证实低于基线，{inconclusive} 个未定。",
    ),
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
        "Configurations that were steady (spread across blocks up to 2 %): {ok}; noisy (up to 5 %, or one block): {noisy}; not steady "
        "enough for an absolute number: {rejected}, whose paired ratios may still hold.",
        "{ok} 个配置稳定（区组间变异不超过 2 %），{noisy} 个有噪声（不超过 5 %，或仅一个区组），{rejected} 个不足以给出绝对值，但其配对比"
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
    "scores": (
        "Against the baseline on the same items, {lower} of {n} scores are shown to be lower and {higher} higher; {inconclusive} are not "
        "decided. {items} items can show a ratio of scores that is off by {least} % (median), no less.",
        "与基线在同样的题目上相比：{n} 个得分中 {lower} 个证实更低，{higher} 个更高；{inconclusive} 个未定。{items} 道题能证实的得分比值之"
        "偏差为 {least} %（中位数），更小的不能。",
    ),
    "scores_unpaired": (
        "Scores were taken over at most {n} items; which items were right is not known, so strategies are not compared item by item.",
        "得分取自至多 {n} 道题；不知道哪些题答对，因此不能逐题比较策略。",
    ),
    "roof": (
        "{phase} reaches {low} to {high} % of its roof; for {memory} of {n} configurations that roof is the memory's, for the others the "
        "arithmetic's.",
        "{phase}达到其上限的 {low} 至 {high} %；{n} 个配置中有 {memory} 个的上限来自内存带宽，其余来自算力。",
    ),
    "no_roof": (
        "{phase} achieves {low} to {high} Gflop/s; no peak of this hardware is known, so no share of a roof is stated.",
        "{phase}达到 {low} 至 {high} Gflop/s；该硬件的峰值未知，因此不给出占上限的比例。",
    ),
    "roof_uncounted": (
        "No configuration whose flops can be counted: {reason}",
        "没有可计算浮点运算次数的配置：{reason}",
    ),
    "steady": (
        "Possible disturbances that could be tested: {n}; shown: {names}. Windows that stand out: {outliers}; none was dropped.",
        "可检验的干扰：{n} 种；证实的：{names}。突出的窗口：{outliers} 个，均未剔除。",
    ),
    "none": ("none", "无"),
    "one_level": ("{factor}: only {level}.", "{factor}：只有 {level}。"),
    "single_block": (
        "One block: every figure is a single observation, without interval or test.",
        "只有一个区组：每个数值都是单次观察，没有区间，也没有检验。",
    ),
    "few_blocks": (
        "{n} blocks at most: intervals are wide, and small differences cannot be shown.",
        "至多 {n} 个区组：区间较宽，小差别无法证实。",
    ),
    "random_weights": (
        "Weights are random: energy and speed are representative of the shapes, scores are not measured.",
        "权重是随机的：能量与速度代表其形状，得分未测。",
    ),
    "one_machine": (
        "Jobs: {jobs}. Another card or machine of the same kind may differ by its sensor's gain and its own make.",
        "作业数：{jobs}。同型号的另一张卡或另一台机器可能因传感器增益与个体差异而不同。",
    ),
    "largest": (
        "The largest of several savings was picked out after the fact: a repetition will on average find it a little smaller.",
        "最大的节省是事后挑出的：重复实验时平均会略小。",
    ),
    "figure": (
        "n = {blocks} blocks a point. Bars: 95 % t interval on the log scale. Basis: {basis}.",
        "每点 n = {blocks} 个区组。误差线：95 % t 区间（对数尺度）。依据：{basis}。",
    ),
    "figure_drawn": (
        "n = {blocks} blocks a point. Probabilities over draws from the intervals. Basis: {basis}.",
        "每点 n = {blocks} 个区组。概率由区间抽样得到。依据：{basis}。",
    ),
    "over_items": (
        "Scores over {items} items, with 95 % intervals over items.",
        "得分取自 {items} 道题，区间为对题目的 95 % 区间。",
    ),
    "figures_english": ("", "图中文字与策略名为英文。"),
    "again": (
        "`eai replay {experiment}` derives every energy again from its raw readings; `eai report {experiment}` writes this page again.",
        "`eai replay {experiment}` 由原始读数重新推出每个能量；`eai report {experiment}` 重新写出本页。",
    ),
    "again_foreign": ("`eai report {experiment}` writes this page again.", "`eai report {experiment}` 重新写出本页。"),
    "cut": ("first {{shown}} of {{all}} rows; the whole table is {table}.csv", "前 {{shown}} 行，共 {{all}} 行；全表见 {table}.csv"),
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
