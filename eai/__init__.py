"""Energy of LLM inference, measured so that it can be trusted: a set of instruments; the analysis stands in `notebooks/`.

    sensor -> trace -> window -> summary -> comparison -> figure / claim / advice

power       meters, windows, power logs: joules          workload    models, generation, tasks: what runs
measure     the protocol: warm-up, windows -> rows       jobs store         what is to be done, and the rows on disk
stats       intervals, tests, planning                   analyze plots      tables from windows, figures from tables
settings inputs cells   parameters, tasks, loads, YAML, cells of tables; schema tables paths   columns, the only reader and writer of data/
catalog strategies footprint                GPUs, models, prices, formats, bytes and flops, what can run where
cli runs machine notebooks terminal export   commands, the main job, this machine, guarded papermill, hand-over
plug-ins    serving cluster importers claims predict advise audit report; the core imports none (paths finds them)

A module imports only what lies before it in this flow (a test holds that). `with eai.window("prefill") as w:` measures your own code:
`w.gpu_energy_j`, `w.cpu_energy_j` have value, 95 % interval and unit, or are None where nothing was measured (quantity, errors).
"""

__version__ = "0.2.0"


def __getattr__(name: str):
    """`eai.window` and `eai.load`, imported on first use so that `import eai` stays instant."""
    if name == "window":
        from eai.power import window

        return window
    if name == "load":
        from eai.export import load

        return load
    raise AttributeError(f"module 'eai' has no attribute '{name}'")
