"""Foreign files in the shapes that their tools write, mutated: valid ones import with the right numbers, broken ones give a line.

The files are written here as text from numbers drawn at random; what must come out is reckoned from those numbers with plain
arithmetic. Harmless mutations are what editors and tools do to a file; harmful ones are what people do to it.
"""

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from eai import paths
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.importers import mappings
from eai.importers.imports import lm_eval_scores
from eai.importers.mappings import mapping_from, tools
from eai.importers.windows import NO_NUMBER, NOT_MEASURED, import_phases, import_table
from eai.power.logs import read_log
from eai.power.trace import summarize_trace
from eai.report import facts

SEEDS = 40
RNG = np.random.default_rng
GIVEN = {"model": "mistralai/Mistral-7B-v0.1", "quantization": "fp16", "batch_size": 4, "input_tokens": 512, "output_tokens": 128}
LENGTHS = {k: v for k, v in GIVEN.items() if k != "quantization"}


def codecarbon(rng):
    """emissions.csv: kWh of a run by component, duration in seconds; rows and the joules of the GPU that they mean."""
    rows, joules = [], []
    for i in range(rng.integers(1, 6)):
        gpu, cpu, ram, seconds = rng.uniform(1e-5, 0.5), rng.uniform(1e-6, 0.1), rng.uniform(1e-6, 0.01), rng.uniform(1, 4000)
        rows.append({
            "timestamp": f"2026-03-0{i + 1}T10:00:00", "project_name": "x", "run_id": f"r{i}", "duration": seconds, "emissions": 0.1 * gpu,
            "cpu_power": 42.5, "gpu_power": gpu * 3.6e6 / seconds, "ram_power": 3.0, "cpu_energy": cpu, "gpu_energy": gpu,
            "ram_energy": ram, "energy_consumed": gpu + cpu + ram, "country_name": "France", "gpu_count": 1,
            "gpu_model": "1 x NVIDIA GeForce RTX 4090", "cpu_model": "AMD EPYC 7763", "tracking_mode": "machine",
        })  # fmt: skip
        joules.append((gpu * 3_600_000, seconds))
    return rows, joules, {"tokens_out": 1024.0}


def optimum(rng):
    """A flattened report: kWh of one decode pass of the whole batch, its latency and throughput."""
    rows, joules = [], []
    for batch in rng.choice([1, 2, 4, 8, 16], size=rng.integers(1, 5), replace=False):
        kwh, seconds, new = rng.uniform(1e-6, 1e-3), rng.uniform(0.5, 20), 128
        rows.append({
            "config.name": "cuda_pytorch", "config.backend.model": "mistralai/Mistral-7B-v0.1", "config.backend.device": "cuda",
            "config.scenario.input_shapes.batch_size": int(batch), "config.scenario.input_shapes.sequence_length": 512,
            "config.scenario.generate_kwargs.max_new_tokens": new, "report.prefill.latency.mean": 0.05,
            "report.decode.latency.mean": seconds, "report.decode.throughput.value": batch * (new - 1) / seconds,
            "report.decode.energy.cpu": 0.1 * kwh, "report.decode.energy.ram": 0.01 * kwh, "report.decode.energy.gpu": kwh,
            "report.decode.energy.total": 1.11 * kwh,
        })  # fmt: skip
        joules.append((kwh * 3_600_000, seconds, float(batch * (new - 1))))
    return rows, joules, {"gpu": "NVIDIA A100 80GB PCIe", "quantization": "fp16"}


def ml_energy(rng):
    """Runs of the benchmark: joules an output token and tokens per second, no totals."""
    rows, joules = [], []
    for i in range(rng.integers(1, 6)):
        per_token, rate = rng.uniform(0.05, 5), rng.uniform(50, 9000)
        rows.append({
            "model_id": "meta-llama/Llama-3.1-8B-Instruct", "task": "lm-arena-chat", "gpu_model": "H100", "num_gpus": 1,
            "max_num_seqs": 8 * (i + 1), "energy_per_token_joules": per_token, "output_throughput_tokens_per_sec": rate,
            "avg_power_watts": per_token * rate, "is_stable": True,
        })  # fmt: skip
        joules.append((per_token * rate, 1.0, rate))
    return rows, joules, {"quantization": "fp16", "input_tokens": 512, "output_tokens": 256}


def logger(rng):
    """A logger of the user's own: milliseconds and Wh, five runs of everything."""
    rows, joules = [], []
    for run in "abcde":
        for method in ("fp16", "nf4"):
            wh, ms, tokens = rng.uniform(0.01, 5), rng.uniform(1000, 60000), int(rng.integers(100, 5000))
            rows.append({"run": run, "method": method, "gpu_wh": wh, "elapsed_ms": ms, "new_tokens": tokens, "note": "a, b"})
            joules.append((wh * 3600, ms / 1000, float(tokens)))
    return rows, joules, {}


LOGGER = mapping_from({
    "source": "my logger", "energies": [{"column": "gpu_wh", "unit": "Wh", "boundary": "gpu", "basis": "measured"}],
    "columns": {"quantization": "method", "duration_s": "elapsed_ms", "tokens_out": "new_tokens"}, "units": {"duration_s": "ms"},
    "constants": LENGTHS | {"gpu": "RTX 4090"}, "block": "run",
})  # fmt: skip


def with_constants(mapping, constants):
    return mappings.with_constants(mapping, constants)


SOURCES = {
    "codecarbon": (codecarbon, with_constants(tools()["codecarbon"], GIVEN)),
    "optimum-benchmark": (optimum, tools()["optimum-benchmark"]),
    "ml-energy": (ml_energy, tools()["ml-energy-3"]),
    "logger": (logger, LOGGER),
}


def written(rows, rng=None):
    """The rows as CSV text; with `rng` as another tool may have written it: columns and rows in another order, more columns, quotes,
    other line ends, another notation of the numbers, a byte-order mark, an empty line at the end."""
    rows, names = [dict(row) for row in rows], list(rows[0])
    style = {"lineterminator": "\n"}
    if rng is not None:
        rng.shuffle(names)
        names = [*names, "remark"] if rng.random() < 0.5 else names
        style = {"lineterminator": ("\n", "\r\n")[rng.integers(2)], "quoting": (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)[rng.integers(2)]}
        notation = (repr, "{:.17g}".format, "{:.16e}".format)[rng.integers(3)]
        rows = [{k: notation(v) if type(v) is float else v for k, v in row.items()} for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", **style)
    writer.writeheader()
    writer.writerows(rows)
    text = out.getvalue()
    return text if rng is None else ("", "\ufeff")[rng.integers(2)] + text + ("", style["lineterminator"])[rng.integers(2)]


def read(text, path):
    path.write_text(text, encoding="utf-8")
    return pd.read_csv(path)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_valid_file_imports_with_the_right_numbers_however_it_was_written(source, seed, tmp_path):
    rng = RNG([seed, list(SOURCES).index(source)])
    make, mapping = SOURCES[source]
    rows, joules, constants = make(rng)
    mapping = with_constants(mapping, constants)
    windows, energies = import_table(read(written(rows, rng), tmp_path / "t.csv"), mapping)
    assert windows["status"].eq("ok").all() and len(windows) == len(rows) and windows["configuration_id"].notna().all()
    gpu = energies[energies["boundary"] == "gpu"].merge(windows[["attempt", "duration_s", "tokens_out"]], on="attempt")
    found = gpu[["energy_j", "duration_s", "tokens_out"]].to_numpy(float)
    wanted = np.array([(*row, constants["tokens_out"]) if len(row) == 2 else row for row in joules])
    assert found == pytest.approx(wanted, rel=1e-12)


def test_the_names_of_the_tools_become_ours(tmp_path):
    windows, _ = import_table(
        read(written(codecarbon(RNG(0))[0]), tmp_path / "t.csv"), with_constants(*SOURCES["codecarbon"][1:], {"tokens_out": 1.0})
    )
    assert set(windows["gpu"]) == {"rtx4090"} and set(windows["model"]) == {"mistral-7b-v0.1"}
    assert {"codecarbon", "optimum-benchmark", "ml-energy-3"} < set(tools())


def blank(value):
    return lambda rows, column: [row | {column: value} for row in rows]


HARMLESS_VALUES = [
    ("", NOT_MEASURED),
    (0, NOT_MEASURED),
    (-1, NOT_MEASURED),
    ("N/A", NOT_MEASURED),
    ("0,005", NO_NUMBER),
    ("3 lumens", NO_NUMBER),
    ("inf", NO_NUMBER),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("value", "reason"), HARMLESS_VALUES)
def test_an_energy_that_is_none_is_not_measured_and_says_so(source, value, reason, tmp_path):
    make, mapping = SOURCES[source]
    rows, _, constants = make(RNG(1))
    mapping = with_constants(mapping, constants)
    for energy in mapping.energies:
        rows = blank(value)(rows, energy.column)
    windows, energies = import_table(read(written(rows), tmp_path / "t.csv"), mapping)
    assert set(windows["status"]) == {"invalid"} and set(windows["reason"]) == {reason} and energies.empty
    with pytest.raises(UserError, match="no usable window"):
        summarize(windows, energies)


def without(rows, column):
    return [{k: v for k, v in row.items() if k != column} for row in rows]


BROKEN = {
    "codecarbon": [(blank(""), "gpu_model", "a row without gpu")],
    "optimum-benchmark": [
        (blank(0), "config.scenario.input_shapes.batch_size", "configuration cannot be read"),
        (blank(-3), "config.scenario.input_shapes.batch_size", "configuration cannot be read"),
        (blank(2.5), "config.scenario.input_shapes.batch_size", "2.5 is no whole number"),
        (blank("many"), "config.scenario.input_shapes.sequence_length", "configuration cannot be read"),
        (blank(""), "config.backend.model", "a row without model"),
    ],
    "ml-energy": [
        (lambda r: without(r, "energy_per_token_joules"), "no column energy_per_token_joules"),
        (blank(""), "max_num_seqs", "configuration cannot be read"),
    ],
    "logger": [(blank(""), "method", "a row without quantization"), (lambda r: without(r, "run"), "no column run")],
}
CASES = [(source, *case) for source, cases in BROKEN.items() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[-1]}")
def test_a_broken_file_gives_one_line_that_names_what_is_wrong(case, tmp_path):
    source, change, *column, message = case
    make, mapping = SOURCES[source]
    rows, _, constants = make(RNG(2))
    with pytest.raises(UserError, match=message.replace(".", r"\.")) as caught:
        import_table(read(written(change(rows, *column)), tmp_path / "t.csv"), with_constants(mapping, constants))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_options_left_blank_are_none(tmp_path):
    frame = read(written(logger(RNG(5))[0]), tmp_path / "t.csv").assign(options=np.nan)
    mapping = with_constants(LOGGER, {})
    windows, _ = import_table(frame, replace(mapping, columns=mapping.columns | {"options": "options"}))
    assert set(windows["options"]) == {"{}"} and windows["configuration_id"].nunique() == 2


def test_the_documented_way_makes_an_experiment_that_every_analysis_reads(scratch, monkeypatch, capsys):
    """The YAML and Python blocks of docs/importing.md, run as they stand."""
    text = (paths.ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    (yaml_block,), (python_block,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.S) for kind in ("yaml", "python"))
    monkeypatch.chdir(scratch)
    (scratch / "mapping.yaml").write_text(yaml_block)
    (scratch / "log.csv").write_text(written(logger(RNG(4))[0]))
    exec(compile(python_block, "docs/importing.md", "exec"), {})
    assert capsys.readouterr().out.strip() == str(paths.runs() / "my-import")
    found = facts.gather("my-import")
    assert len(found.comparisons) == 1 and set(found.table["basis"]) == {"measured"} and found.comparisons["n_pairs"].iloc[0] == 5


def test_a_column_that_stands_twice_and_a_header_alone_are_refused(tmp_path):
    rows = logger(RNG(3))[0]
    frame = read(written(rows), tmp_path / "t.csv")
    with pytest.raises(UserError, match="gpu_wh stands twice"):
        import_table(pd.concat([frame, frame[["gpu_wh"]]], axis=1), LOGGER)
    with pytest.raises(UserError, match="an empty table"):
        import_table(read(written(rows).splitlines()[0] + "\n", tmp_path / "t.csv"), LOGGER)


def lm_eval_document(rng):
    """A results file as lm-eval 0.4 writes it: a group with two levels of subtasks and two single tasks, and what it means."""
    leaves = {"mmlu_anatomy": 135, "mmlu_astronomy": 152, "mmlu_law": 1534}
    right = {name: int(rng.integers(0, n + 1)) for name, n in leaves.items()}
    mmlu = sum(right.values()) / sum(leaves.values())
    gsm8k, arc = (int(rng.integers(0, n + 1)) / n for n in (200, 1172))
    results = {
        "mmlu": {"acc,none": mmlu, "acc_stderr,none": 0.01, "alias": "mmlu"},
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": gsm8k, "exact_match,flexible-extract": 0.9},
        "arc_challenge": {"alias": "arc_challenge", "acc,none": 0.5, "acc_stderr,none": 0.01, "acc_norm,none": arc},
    }  # fmt: skip
    results |= {name: {"alias": f" - {name}", "acc,none": right[name] / n, "acc_stderr,none": "N/A"} for name, n in leaves.items()}
    document = {
        "results": results,
        "group_subtasks": {"mmlu": ["mmlu_stem", "mmlu_law"], "mmlu_stem": ["mmlu_anatomy", "mmlu_astronomy"], "gsm8k": []},
        "configs": {}, "versions": {"mmlu": 2, "gsm8k": 3.0, "arc_challenge": 1.0}, "config": {"model": "hf"}, "date": 1763800000.0,
        "n-shot": {"gsm8k": 5, "arc_challenge": 25} | dict.fromkeys(leaves, 5),
        "n-samples": {n: {"original": k, "effective": k} for n, k in (leaves | {"arc_challenge": 1172}).items()}
        | {"gsm8k": {"original": 1319, "effective": 200}},
    }  # fmt: skip
    return document, {"mmlu": (mmlu, 1821, 5), "gsm8k": (gsm8k, 200, 5), "arc_challenge": (arc, 1172, 25)}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_lm_eval_results_have_their_scores_items_and_shots(seed):
    rng = RNG([seed, 9])
    document, wanted = lm_eval_document(rng)
    tasks = list(document["results"])
    rng.shuffle(tasks)
    document["results"] = {t: document["results"][t] for t in tasks}
    table = lm_eval_scores(json.loads(json.dumps(document)), "abc").set_index("task")
    assert set(table.index) == set(wanted)
    assert all(tuple(table.loc[t, ["score", "n_items", "few_shot"]]) == pytest.approx(wanted[t]) for t in wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["results"]["gsm8k"].update({"exact_match,strict-match": "N/A"}), "exact_match,strict-match of gsm8k is N/A"),
        (lambda d: d["results"]["gsm8k"].update({"exact_match,strict-match": float("nan")}), "is nan"),
        (lambda d: d["results"]["arc_challenge"].update({"acc_norm,none": 71.8}), "is 71.8; expected a fraction"),
        (lambda d: d["results"]["arc_challenge"].pop("acc_norm,none"), "arc_challenge has no acc_norm"),
        (lambda d: d.pop("results"), "without `results`"),
        (lambda d: d.update(results=[1, 2]), "without `results`"),
    ],
)
def test_lm_eval_documents_that_are_wrong_are_one_line(change, message):
    document, _ = lm_eval_document(RNG(0))
    change(document)
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        lm_eval_scores(document, "abc")


def test_a_group_whose_items_are_not_said_has_none():
    document, _ = lm_eval_document(RNG(0))
    del document["n-samples"]["mmlu_law"]
    table = lm_eval_scores(document, "abc").set_index("task")
    assert pd.isna(table.loc["mmlu", "n_items"]) and table.loc["gsm8k", "n_items"] == 200


STYLES = {
    "plain": ("timestamp, index, power.draw [W]", "{}, {}, {:.2f} W"),
    "no units": ("timestamp,index,power.draw", "{},{},{:.2f}"),
    "more columns": ("timestamp, index, name, power.draw [W], utilization.gpu [%]", "{}, {}, NVIDIA A100, {:.2f} W, 87 %"),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(5))
def test_a_log_of_two_cards_and_a_table_of_phases(style, seed, tmp_path):
    """Two cards at constant power in each of three phases with pauses: watts times seconds, exactly; 2 Hz, phases on whole seconds."""
    rng = RNG([seed, 11])
    watts = rng.uniform(60, 400, (3, 2)).round(2)
    edges = [(2.0, 12.0), (15.0, 30.0), (33.0, 39.0)]
    header, line = STYLES[style]
    lines = [header]
    for i in range(2 * 42):
        t = 0.5 * i
        phase = next((k for k, (a, b) in enumerate(edges) if a - 1 <= t <= b + 1), None)
        for card in (0, 1):
            power = watts[phase, card] if phase is not None else 30.0
            lines.append(line.format(f"2026/03/01 10:00:{int(t):02d}.{int(1000 * (t % 1)):03d}", card, power))
    path = tmp_path / "power.csv"
    path.write_text("\n".join(lines) + "\n")
    log = read_log(path)
    zero_s = min(gpu.t_s[0] for gpu in log.gpus)

    def energy_of(start_s, stop_s):
        found = summarize_trace(log, (zero_s + start_s, zero_s + stop_s))
        return [{"device_id": f"gpu{gpu['index']}", "energy_j": gpu["energy_j"]} for gpu in found["gpus"]]

    phases = pd.DataFrame({"start_s": [a for a, _ in edges], "stop_s": [b for _, b in edges], "method": ["fp16", "nf4", "int8_pure"]})
    mapping = mapping_from({
        "source": "nvidia-smi", "energies": [{"column": "power", "unit": "J", "boundary": "gpu", "basis": "measured"}],
        "columns": {"quantization": "method"}, "constants": LENGTHS | {"gpu": "A100", "tokens_out": 512},
    })  # fmt: skip
    windows, energies = import_phases(phases, energy_of, mapping)
    found = energies.groupby("attempt")["energy_j"].sum().reindex(windows["attempt"])
    wanted = [watts[k].sum() * (b - a) for k, (a, b) in enumerate(edges)]
    assert found.to_numpy() == pytest.approx(wanted, rel=1e-6) and windows["duration_s"].tolist() == [10.0, 15.0, 6.0]
    with pytest.raises(UserError, match="an end after its beginning"):
        import_phases(phases.assign(stop_s=phases["start_s"]), energy_of, mapping)
    with pytest.raises(UserError, match="phases without stop_s"):
        import_phases(phases.drop(columns="stop_s"), energy_of, mapping)
