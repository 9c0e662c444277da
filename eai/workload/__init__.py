"""What runs while we measure: models under a quantization, and generation of counted tokens. Knows nothing of watts.

embedded      the model that comes inside a PyPI package, converted once
models        find and load a model under a strategy (safetensors only)
verification  what was requested is what runs, or an error
generation    batches of a fixed shape, tokens counted
device        which card, how many threads
memory        peak memory of a stretch of work
"""
