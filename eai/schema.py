"""The registry of columns: validates tables, labels axes, writes the data dictionary.

A column has one meaning, type and unit wherever it stands. Units are part of the name; `unit` repeats them for axis labels.
"""

from dataclasses import dataclass

from eai import load_columns, published_columns, summary_columns

VERSION = 1
"""Of the tables below; raised when a column changes its meaning or goes, not when one is added."""

BASES = ("measured", "estimated", "simulated", "published", "predicted")
STATUSES = (
    "ok",
    "disputed",
    "throttled",
    "aliased",
    "short_window",
    "counter_reset",
    "invalid",
    "oom",
    "unsupported",
    "lost",
    "timeout",
    "failed",
)
BOUNDARIES = ("gpu", "cpu_package", "dram", "machine")
METHODS = ("counter", "power", "estimate")
GATES = ("ok", "noisy", "rejected")
ENERGY_KINDS = ("gross", "net")
WEIGHTS = ("published", "random", "random_outliers")
OUTCOMES = ("lower", "higher", "equivalent", "inconclusive", "not_testable")

CONFIGURATION = ("gpu", "model", "weights", "quantization", "batch_size", "input_tokens", "output_tokens", "task", "options")
WINDOW_KEY = ("job", "block", "configuration_id", "repeat")


@dataclass(frozen=True)
class Column:
    """One column: its name, type (str, int, float, bool, list), unit, meaning and, where closed, its allowed values."""

    name: str
    kind: str
    unit: str
    meaning: str
    allowed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """An axis label: `energy per output token [J]`."""
        words = self.meaning.split(";")[0].split(". ")[0]
        return f"{words} [{self.unit}]" if self.unit else words


def _columns(text: str, allowed: dict[str, tuple[str, ...]] | None = None) -> tuple[Column, ...]:
    """Columns from lines `name | kind | unit | meaning`."""
    rows = [[part.strip() for part in line.split("|")] for line in text.strip().splitlines()]
    return tuple(Column(*row, allowed=(allowed or {}).get(row[0], ())) for row in rows)


_CONFIGURATION = _columns(
    """
    configuration_id | str | | first 12 hex of the SHA-256 of the canonical JSON of the nine columns that follow
    gpu | str | | catalog slug of the accelerator; cpu where there is none
    model | str | | model id
    weights | str | | where the weights come from
    quantization | str | | quantization strategy
    batch_size | int | | batch size [sequences]
    input_tokens | int | tok | input tokens a sequence; 0: as the items of the task come
    output_tokens | int | tok | output tokens a sequence; 0: as the items of the task come
    task | str | | what runs; generate is plain generation of a fixed length
    options | str | | canonical JSON of the options that are not at their default
    """,
    {"weights": WEIGHTS},
)

_KEY = _columns(
    """
    job | str | | one gpu x one model of an experiment, bound to one card
    block | int | | replicate, from 1; every configuration of the job once, in seeded random order
    configuration_id | str | | first 12 hex of the SHA-256 of the canonical JSON of the configuration
    repeat | int | | window of a configuration within its block, from 1
    attempt | str | | random mark of one measurement; joins windows, energies and samples
    """
)

WINDOWS = (
    *_KEY,
    *_CONFIGURATION[1:],
    *_columns(
        """
        order | int | | place of the window within its block, from 1
        load | int | | which load of a model within the block the window ran on, from 1
        started_at | str | | start of the window, UTC, ISO 8601
        start_s | float | s | start of the window on the monotonic clock of its process
        stop_s | float | s | end of the window on the same clock
        duration_s | float | s | length of the window
        calls | int | | workload calls inside the window; of a task whole passes over its items
        requests | int | | sequences completed inside the window; of a task its items, once a pass
        tokens_in | int | tok | input tokens processed inside the window, counted
        tokens_out | int | tok | output tokens produced inside the window, counted
        requests_failed | int | | requests to a server that failed inside the window
        requests_retried | int | | requests that a server turned away at first, ended inside the window
        arrivals | int | | requests to a server that fell due inside the window
        in_flight_mean | float | | mean number of requests that were due and had not ended
        ttft_s | float | s | time to first token of the whole batch; median of calls of one token, before the window; server: of requests
        ttft_p95_s | float | s | 95th percentile of the time to first token, from when a request was due
        step_time_s | float | s | time of one decode step; median over the calls of the window, time to first token taken off
        itl_s | float | s | inter-token latency; median of one call before the window, each token read as it comes; server: of the window
        itl_p95_s | float | s | 95th percentile of those inter-token latencies
        latency_s | float | s | time of a request from when it was due to the end of its reply; median over the window
        latency_p95_s | float | s | 95th percentile of those times
        client_cpu_s | float | s | CPU time of the process that sent the requests; never part of an estimated energy
        cpu_time_s | float | s | CPU time of the process and its children inside the window; server: of its processes
        memory_peak_gb | float | GB | peak memory; GPU: allocated on the device; CPU: resident set of the process
        model_bytes | int | B | bytes of the loaded parameters and buffers as they are stored
        ran | str | | what the linear layers were verified to be, with their number
        warmup_s | float | s | time spent warming up before the window
        warmup_cv | float | | coefficient of variation of the last five warm-up groups
        temperature_mean_c | float | C | mean temperature over the window
        temperature_max_c | float | C | highest temperature in the window
        sm_clock_mean_mhz | float | MHz | mean SM clock over the window
        mem_clock_mean_mhz | float | MHz | mean memory clock over the window
        utilization_mean_pct | float | % | mean GPU utilisation as the driver reports it
        memory_used_peak_gb | float | GB | peak memory in use on the card, all processes
        power_limit_w | float | W | power limit in force
        power_mean_w | float | W | mean of the power readings in the window; empty where power is not sensed
        power_min_w | float | W | lowest power reading in the window
        power_max_w | float | W | highest power reading in the window
        throttle_fraction | float | | share of the window under thermal violation
        power_capped_fraction | float | | share of the window at the power cap
        cpu_threads_busy | float | | mean number of busy CPU threads of the process
        samples | int | | power readings inside the window
        meter | str | | meter that was used
        meter_spec | str | | JSON that says how the window's samples are read; replay derives the energies from it and the samples again
        basis | str | | where the energy comes from
        status | str | | whether the window may be used
        flags | list | | remarks that do not bar the window
        reason | str | | why the status is not ok
        """,
        {"basis": BASES, "status": STATUSES},
    ),
)

ENERGIES = (
    *_KEY,
    *_columns(
        """
        device_id | str | | UUID of the GPU, RAPL domain, or mark of the machine
        boundary | str | | what the energy covers
        method | str | | how it was obtained
        primary | bool | | whether analysis takes this row; one row a device and boundary
        energy_j | float | J | gross energy of the window
        net_energy_j | float | J | gross minus context idle; empty where idle was not measured
        u_statistical_j | float | J | standard uncertainty: sampling of the signal
        u_granularity_j | float | J | standard uncertainty: update or tick at the edges
        u_aliasing_j | float | J | standard uncertainty: load period against sensor period
        u_idle_j | float | J | standard uncertainty: idle power of the pads
        u_offset_j | float | J | standard uncertainty: offset of the sensor
        u_gain_j | float | J | standard uncertainty: gain of the card's sensor; common to everything on one card
        u_net_j | float | J | standard uncertainty that the subtraction of idle adds to the net energy
        field | str | | sensor field that was read
        basis | str | | where the energy comes from
        status | str | | whether the row may be used
        """,
        {"boundary": BOUNDARIES, "method": METHODS, "basis": BASES, "status": STATUSES},
    ),
)

SAMPLES = (
    *_KEY,
    *_columns(
        """
        t_s | float | s | monotonic time of the reading
        device_id | str | | UUID of the GPU, RAPL domain, or mark of the machine
        boundary | str | | what the field covers
        field | str | | name of the quantity read, unit included
        value | float | | the reading, in the unit of the field's name
        driver_t_us | float | us | the driver's own time stamp of the value
        latency_us | float | us | the driver's own figure of how long the read took
        """,
        {"boundary": BOUNDARIES},
    ),
)

SCORES = (
    *_KEY,
    *_columns(
        """
        task | str | | task the item belongs to
        item | str | | name of the item within the task; the same item has the same name under every strategy
        metric | str | | what score is: acc, acc_norm, exact_match, or word_perplexity_nats for a text
        score | float | | score of the item, a fraction in [0, 1]; of a text: negative log likelihood [nats]
        target | str | | right answer, or number of the right choice
        answer | str | | what the model answered: the text, or the number of its choice
        tokens_in | int | tok | input tokens of the item, counted over its requests
        tokens_out | int | tok | output tokens produced for the item; 0 where continuations were only scored
        words | int | | words of a text; empty for a question
        """
    ),
)

SUMMARY = (
    *_CONFIGURATION,
    *_columns(summary_columns.SUMMARY, {"basis": BASES, "boundary": BOUNDARIES, "gate": GATES, "energy_kind": ENERGY_KINDS}),
)

COMPARISONS = (
    *_CONFIGURATION,
    *_columns(
        """
        metric | str | | what is compared
        baseline | str | | strategy that the ratio refers to
        ratio_to_baseline | float | | value over the baseline's, same stratum
        ratio_to_baseline_low | float | | lower end of the 95 % interval
        ratio_to_baseline_high | float | | upper end of the 95 % interval
        n_pairs | int | | blocks in which both ran
        method | str | | paired_t on log ratios; welch where blocks do not pair; not_testable
        p | float | | two-sided p value
        p_holm | float | | p adjusted by Holm over the family
        family | str | | the declared family and its size
        margin | float | | equivalence margin on the ratio
        tost_p | float | | p of the equivalence test (two one-sided tests)
        tost_power | float | | planned power of the equivalence test
        u_log | float | | systematic standard uncertainty of the log ratio: the sensor's offset, and its gain between two cards
        outcome | str | | what the data show
        basis | str | | where the energy comes from
        reason | str | | why a comparison could not be made
        """,
        {"outcome": OUTCOMES, "basis": BASES},
    ),
)

IDLE = _columns(
    """
    job | str | | one gpu x one model of an experiment, bound to one card
    block | int | | block of the load it belongs to; 0 before the first
    load | int | | which load of a model within the block the window ran on, from 1
    kind | str | | bare: nothing loaded; context: model loaded, before its windows; context_after: after them
    device_id | str | | UUID of the GPU, RAPL domain, or mark of the machine
    power_w | float | W | mean idle power
    u_power_w | float | W | its standard uncertainty
    duration_s | float | s | length of the window
    """,
    {"kind": ("bare", "context", "context_after")},
)

TABLES: dict[str, tuple[Column, ...]] = {
    "windows": WINDOWS,
    "energies": ENERGIES,
    "samples": SAMPLES,
    "scores": SCORES,
    "idle": IDLE,
    "summary": SUMMARY,
    "comparisons": COMPARISONS,
    "loads": (*_CONFIGURATION, *_columns(load_columns.LOADS, {"boundary": BOUNDARIES, "basis": BASES})),
    "published": _columns(published_columns.PUBLISHED),
    "claims": _columns(published_columns.CLAIMS),
}


def column(name: str, table: str | None = None) -> Column:
    """The column called `name`, from `table` or from whichever table has it first.

    Raises KeyError for a column that is not registered: a number without a registered unit is a defect.
    """
    for each in [table] if table else TABLES:
        for c in TABLES[each]:
            if c.name == name:
                return c
    raise KeyError(f"column '{name}' is not in the registry eai/schema.py")


def problems(table: str, rows: list[dict]) -> list[str]:
    """What is wrong with `rows` of `table`: unregistered or missing columns, values outside their closed vocabulary."""
    known = {c.name: c for c in TABLES[table]}
    found = []
    for i, row in enumerate(rows):
        found += [f"row {i}: column '{name}' is not registered" for name in row.keys() - known.keys()]
        found += [f"row {i}: column '{name}' is missing" for name in known.keys() - row.keys()]
        for name, c in known.items():
            value = row.get(name)
            if c.allowed and value is not None and value not in c.allowed:
                found.append(f"row {i}: {name} is '{value}', expected one of {', '.join(c.allowed)}")
    return found


def dictionary() -> str:
    """The data dictionary as Markdown: one table a table, one line a column."""
    parts = []
    for table, columns in TABLES.items():
        parts.append(f"## {table}\n\n| column | type | unit | meaning |\n|---|---|---|---|\n")
        for c in columns:
            values = f" ({', '.join(c.allowed)})" if c.allowed else ""
            parts.append(f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning}{values} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"
