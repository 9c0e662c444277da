"""Energy of LLM inference, measured so that it can be trusted.

The package is the floor under the notebooks (`notebooks/`), which carry the argument. Data flows one way::

    sensor -> trace -> window -> summary -> comparison -> figure / claim / advice

Read it from the bottom up; a module imports only from modules below it (a test holds that):

    cli          the core's commands; plug-ins add theirs   terminal   what commands share
    doctor       what can be measured on this machine     audit       what is wasteful in code and configurations
    runs         the main job: jobs, then the analysis    cluster     many jobs: plan, forecast, engine, progress, merge
    lease        one measurement at a time on a card      notebooks   guarded papermill
    measure      the protocol: warm-up, windows -> rows   order       the random order of a job's windows
    jobs         which card, which folder, what is done   importers   results of other tools
    report       report and talk from the tables          advise      advice, with evidence
    predict      energy of what nobody measured           claims      published claims, each with a verdict
    plots        (table, ax) -> artists                   analyze     metrics, summary, comparison tables
    simulation   what runs on a card that does not exist
    workload     models, generation: what runs            power       meters, windows, traces: joules
    stats        intervals, comparisons (knows no watts)  store       append-only store of one job's windows
    tables       the only reader and writer of data/      settings    every parameter, validated once
    footprint    bytes and flops of a configuration       catalog     GPUs, models, tasks, electricity, aliases
    strategies   what each quantization means             provenance  one JSON line a job
    taskcards    what each task is                        items       a task's items, read and checked
    servers      what a sweep asks of a server            serving     traffic for a server, and the window around it
    schema       the registry of columns                  quantity    value, low, high, unit; the uncertainty budget
    errors       the one-line error for bad input         paths       directories

`power` knows nothing of models and `workload` nothing of watts: they meet in `measure`.
Importing `eai` is instant; torch is imported only by the functions that need it. Users' own code is measured by

    with eai.window("prefill") as w:
        work()
    w.gpu_energy_j, w.cpu_energy_j    # value, 95 % interval, unit; None where nothing was measured
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`eai.window`, imported on first use so that `import eai` stays instant."""
    if name == "window":
        from eai.power import window

        return window
    raise AttributeError(f"module 'eai' has no attribute '{name}'")
