"""The sentences of the section on loads in English and Chinese: what a server's tokens and requests cost, and how long they wait.

Each entry is a pair (English, Chinese). A sentence is used only where a table carries it.
"""

LOADS = {
    "range": (
        "{n} loads of {servers}: the {cost} runs from {low} J ({low_name}) to {high} J ({high_name}).",
        "{servers} 的 {n} 种负载：{cost}从 {low} J（{low_name}）到 {high} J（{high_name}）。",
    ),
    "untested": (
        "These are estimates side by side: whether two loads differ is not tested here.",
        "这些估计值只是并列：此处未检验两种负载之间是否有差别。",
    ),
    "processes": (
        "Billed is the CPU time of the server's own processes; that of the client that drove it is not.",
        "计入的是服务器自身进程的 CPU 时间；驱动它的客户端不计。",
    ),
    "cards": (
        "Billed are the cards that the server's processes are on; the client that drove it uses none.",
        "计入的是服务器进程所在的显卡；驱动它的客户端不用显卡。",
    ),
    "machine": (
        "Billed is {boundary} as a whole, so the client that drove the server, on the same machine, is in it: the column `client_cpu_s` of "
        "the windows tells how much that can be.",
        "计入的是{boundary}整体，因此同一台机器上驱动服务器的客户端也在内：窗口表的 `client_cpu_s` 列说明这最多有多少。",
    ),
    "unknown": ("Whose processes are billed is not recorded with the data.", "数据中没有记录计入的是哪些进程。"),
    "stated": (
        "Name, model and strategy of the server are as stated: nothing in its protocol tells what ran.",
        "服务器的名称、模型与量化策略均按所述：其协议无法说明实际运行的是什么。",
    ),
    "failed": (
        "{failed} of {all} requests in these windows failed ({where}): their tokens are not counted, the energy they took is.",
        "这些窗口中的 {all} 个请求有 {failed} 个失败（{where}）：其词元不计，所耗能量仍计入。",
    ),
    "none_failed": ("None of {all} requests in these windows failed.", "这些窗口中的 {all} 个请求无一失败。"),
    "overloaded": (
        "More requests came than the server could end at {names}: waiting there grows with the length of the window and is no property of "
        "the server.",
        "在 {names} 下，请求多于服务器所能完成：那里的等待随窗口长度增长，不是服务器的性质。",
    ),
    "client_late": (
        "At {names} the client was late by more than a tenth of a request's time: waiting there is partly its own.",
        "在 {names} 下，客户端迟到超过请求时间的十分之一：那里的等待部分来自客户端。",
    ),
    "tokens_from_pieces": (
        "At {names} the server told no number of tokens, and pieces of text were counted instead.",
        "在 {names} 下，服务器没有给出词元数，改为计数文本片段。",
    ),
    "length_varies": (
        "At {names} replies were not of one length: compare the cost of a token there, not of a request.",
        "在 {names} 下，回复长度不一：请比较每词元而不是每请求的代价。",
    ),
    "not_steady": (
        "At {names} the speed was not shown to be steady before the window began.",
        "在 {names} 下，窗口开始前未证实速度已稳定。",
    ),
    "other_remarks": ("Other remarks on windows: {names}.", "对窗口的其他备注：{names}。"),
    "wait_range": (
        "The median time to the first token runs from {low} s ({low_name}) to {high} s ({high_name}).",
        "首词元时间的中位数从 {low} 秒（{low_name}）到 {high} 秒（{high_name}）。",
    ),
    "figure": (
        "Against the requests completed a second; numbers beside the points: requests in flight (closed) or arriving a second (open).",
        "横轴为每秒完成的请求数；点旁数字：在途的请求数（closed）或每秒到达的请求数（open）。",
    ),
    "one_block": (
        "n = 1 block: no interval can be given.",
        "n = 1 个区组：无法给出区间。",
    ),
    "no_rule": (
        "No rule on strategies: the rows of a server are loads, and a load is not chosen but comes.",
        "没有关于量化策略的规则：服务器的各行是负载，而负载不是选择的，是到来的。",
    ),
    "versions": ("Software of the client, not of the server: {versions}.", "软件（客户端的，不是服务器的）：{versions}。"),
    "replicate": (
        "The replicate is a block: every load once, in random order. The server is not started anew between blocks: what its own start "
        "changes is not in the intervals. Windows of one block are averaged first. Intervals are 95 % t intervals of block means on the "
        "log scale.",
        "重复单位是区组：每种负载一次、随机顺序。区组之间服务器不重新启动：因此区间不含其启动带来的差异。同一区组的窗口先取平均。区间为区"
        "组均值在对数尺度上的 95 % t 区间。",
    ),
}
