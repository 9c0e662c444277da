"""Single words of the report in English and Chinese: headings, captions, columns, outcomes and factors.

Each entry is a pair (English, Chinese).
"""

BASIS_WORD = {
    "measured": ("measured", "实测"),
    "estimated": ("estimated", "估算"),
    "simulated": ("simulated", "模拟"),
    "published": ("published", "发表值"),
    "predicted": ("predicted", "预测"),
}

COST = {
    "measured": ("energy per {unit}", "每{unit}的能量"),
    "estimated": ("estimated energy per {unit}", "每{unit}的估算能量"),
    "simulated": ("simulated energy per {unit}", "每{unit}的模拟能量"),
    "published": ("published energy per {unit}", "每{unit}的发表能量"),
    "predicted": ("predicted energy per {unit}", "每{unit}的预测能量"),
}

UNIT = {"token": ("output token", "输出词元"), "item": ("item of a task", "题"), "both": ("output token or item", "输出词元或题")}

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
    "load": ("load", "负载"),
}

HEADS = {
    "title": ("Energy of LLM inference: experiment {experiment}", "大语言模型推理的能耗：实验 {experiment}"),
    "abstract": ("In short", "摘要"),
    "setup": ("What was measured, and on what", "测了什么、在什么上测"),
    "method": ("How", "方法"),
    "results": ("Results", "结果"),
    "cost": ("Cost per {unit}", "每{unit}的代价"),
    "ratios": ("Against the baseline", "与基线相比"),
    "contrast": ("By {factor}", "按{factor}"),
    "synergy": ("Strategy and {factor} together", "量化策略与{factor}的交互"),
    "scores": ("Scores", "得分"),
    "loads": ("What each load costs", "每种负载的代价"),
    "roof": ("Under the roof", "离上限有多远"),
    "steady": ("Was it steady?", "实验是否稳定？"),
    "guidance": ("What to deploy, from these data alone", "仅凭这些数据如何部署"),
    "limits": ("Limits", "局限"),
    "again": ("To do it again", "如何重现"),
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
        "Ratio to the baseline there, at the reference, and their quotient (synergy) with its 95 % interval: below 1 the strategy saves "
        "more there.",
        "该处与参考处对基线的比值及其商（协同）与 95 % 区间：小于 1 表示该策略在该处省得更多。",
    ),
    "steady": (
        "Relative effect of possible disturbances on the energy of a unit of work; of the block before, the correlation.",
        "可能的干扰对单位工作能量的相对影响；前一区组一行为相关系数。",
    ),
    "pairs": (
        "Against the baseline on the same items: difference of scores (bootstrap over items), share retained (Bonett and Price), ratio of "
        "EORs; p of McNemar's test after Holm's correction.",
        "与基线在同样题目上相比：得分差（对题目自助抽样）、保留比例（Bonett–Price）、EOR 之比；p 为 McNemar 检验，经 Holm 校正。",
    ),
    "choices": (
        "The best hardware, strategy and batch size for each scenario, over the same models, lengths and tasks; energy saved and score "
        "kept against the baseline strategy there; the probability that the choice is right. Basis: {basis}.",
        "每种场景下最好的硬件、策略和批大小，取自同样的模型、长度和任务；节省的能量与保留的得分均相对于该处的基线；以及选择正确的概率。依据：{basis}。",
    ),
    "loads": (
        "{cost} and per request, and throughput, with 95 % intervals of block means; closed:N keeps N requests in flight, open:R sends "
        "R a second; n: blocks.",
        "{cost}、每请求的能量与吞吐量，95 % 区间（区组均值）；closed:N 保持 N 个请求在途，open:R 每秒发出 R 个；n 为区组数。",
    ),
    "waits": (
        "Time to first token (TTFT), inter-token latency (ITL) and time of a whole request: geometric means over blocks of each window's "
        "median or 95th percentile, with 95 % intervals; they count from when a request was due.",
        "首词元时间（TTFT）、词元间隔（ITL）与整个请求的时间：各窗口中位数或第 95 百分位数在区组间的几何平均，附 95 % 区间；自请求应发出时"
        "起算。",
    ),
    "scores": (
        "Scores, EOR and TWEOR with 95 % intervals; energy and time are those of the task as run.",
        "得分、EOR 与 TWEOR，95 % 区间；能量与时间为所运行任务的值。",
    ),
}

PHASE = {
    "prefill": ("Reading the prompt (prefill)", "读入提示（预填充）"),
    "decode": ("A decode step", "一个解码步"),
    "whole": ("A whole call", "一次完整调用"),
}

OBJECTIVES = {
    "energy, time": ("energy and time", "能量与时间"),
    "energy, time, score": ("energy, time and score", "能量、时间与得分"),
    "mixed": ("energy, time and, where all of a task are scored, score", "能量、时间，以及任务全部有得分时的得分"),
}

SCENARIO = {
    "lowest energy": ("lowest energy", "能量最低"),
    "highest throughput": ("highest throughput", "吞吐量最高"),
    "smallest batch": ("smallest batch", "最小批大小"),
    "half the memory": ("half the memory", "内存减半"),
    "keeps": ("keeps {kept} % of the score", "保留 {kept} % 的得分"),
    "on ": ("on {level}", "在 {level} 上"),
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
    "cost": ("J per {unit}", "J/{unit}"),
    "throughput": ("{unit}s/s", "{unit}/秒"),
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
    "difference": ("score difference", "得分差"),
    "retained": ("score retained", "保留的得分"),
    "eor_ratio": ("EOR ratio", "EOR 之比"),
    "n_items": ("items", "题数"),
    "scenario": ("scenario", "场景"),
    "choice": ("hardware, strategy, batch", "硬件、策略、批大小"),
    "speed_units": ("tokens or items/s", "词元或题/秒"),
    "saved": ("energy saved", "节省能量"),
    "probability": ("probability", "概率"),
    "load": ("load", "负载"),
    "per_request": ("J per request", "J/请求"),
    "requests_s": ("requests/s", "请求/秒"),
    "ttft_s": ("TTFT median [s]", "TTFT 中位数 [s]"),
    "ttft_p95_s": ("TTFT 95 % [s]", "TTFT 95 % [s]"),
    "itl_s": ("ITL median [s]", "ITL 中位数 [s]"),
    "latency_s": ("request median [s]", "请求中位数 [s]"),
    "failed": ("failed / all", "失败 / 全部"),
    "tweor": ("TWEOR [1/(Wh s)]", "TWEOR [1/(Wh s)]"),
}
