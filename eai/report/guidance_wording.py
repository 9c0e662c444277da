"""The sentences on what to deploy in English and Chinese: rules, the deployment matrix, the Pareto front.

Each entry is a pair (English, Chinese). A sentence is used only where a table carries it.
"""

GUIDANCE = {
    "rule": (
        "{where}: **{strategy}** has the lowest {cost}{condition}; probability that it is the lowest of the steady ones measured: "
        "{confidence}.",
        "{where}：**{strategy}** 的{cost}最低{condition}；它在所测的稳定配置中最低的概率：{confidence}。",
    ),
    "rule_unknown": (
        "{where}: **{strategy}** had the lowest {cost}{condition}; how probable it is that it really has cannot be said.",
        "{where}：**{strategy}** 的{cost}最低{condition}；它确实最低的概率无从得知。",
    ),
    "unknown": ("unknown", "未知"),
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
    "front": (
        "On the Pareto front of {objectives} with a probability above {sure}: {n} of the {known} configurations whose probability is "
        "known{names}.",
        "以超过 {sure} 的概率位于帕累托前沿（{objectives}）：概率已知的 {known} 个配置中有 {n} 个{names}。",
    ),
    "front_unknown": (
        "For {unknown} of {all} configurations the probability is unknown, because one block gives no error: they may be on the front or "
        "not.",
        "{all} 个配置中有 {unknown} 个的概率未知，因为一个区组不能给出误差：它们可能在前沿上，也可能不在。",
    ),
    "front_all_unknown": (
        "Which configurations are on the Pareto front of {objectives} is unknown for all {all}: one block gives no error.",
        "{all} 个配置中哪些位于帕累托前沿（{objectives}）全部未知：一个区组不能给出误差。",
    ),
    "only_steady": (
        "{where}: only **{strategy}** of {n} strategies was steady enough{condition}, so there is no lowest {cost} to name.",
        "{where}：{n} 种策略中只有 **{strategy}** 足够稳定{condition}，因此不能指出哪种的{cost}最低。",
    ),
    "only_cell": (
        "Of {cells} combinations only {choice} was steady enough: there is nothing to choose between.",
        "{cells} 种组合中只有 {choice} 足够稳定：无可选择。",
    ),
    "only_candidate": ("the only candidate", "唯一候选"),
    "no_score_known": ("no score measured", "未测得分"),
    "lowest": (
        "Lowest energy: {choice}; energy saved {saved}, score retained {kept}; probability {sure}, among {n} steady ones of {cells}.",
        "能量最低：{choice}；节省能量 {saved}，保留的得分 {kept}；概率 {sure}，取自 {cells} 个中稳定的 {n} 个。",
    ),
    "left_out_cells": (
        " {n_rejected} of {n_cells} combinations are left out: their energy varies by more than 5 % between blocks.",
        "{n_cells} 种组合中有 {n_rejected} 种未列入：其能量在区组间的变动超过 5 %。",
    ),
    "no_candidate": ("nothing measured meets it", "所测均不满足"),
    "not_measured": ("not measured", "未测"),
}
