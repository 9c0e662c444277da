"""Tasks with right answers, run by lm-eval on the model that is loaded and quantized already.

definitions   a task's lm-eval objects: benchmarks from the hub, sets of ours and users' files without one
data_sets     where the items of the benchmarks are
arithmetic    the items of one set, made by rule
harness       the model as lm-eval sees it, every token counted
passes        whole passes over the items, and their scores
sets/         lm-eval configurations and items of our sets
"""
