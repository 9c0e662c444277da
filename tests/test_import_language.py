"""The mapping language and the tools' own files: what others print becomes joules per token, and nothing is pooled unseen.

Every table is made up, in the shape that the tool writes; expected values are plain arithmetic on the numbers written here.
"""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from eai import cells, tables
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.importers import imports, mappings, windows
from eai.importers.mappings import evaluate, mapping_from
from eai.inputs import yaml_mapping

SAID = ["gpu=a100", "model=mistralai/Mistral-7B-v0.1", "quantization=fp16", "batch_size=1", "input_tokens=64", "output_tokens=128"]
ENERGY = {"column": "wh", "unit": "Wh", "boundary": "gpu", "basis": "measured"}
CONSTANTS = {"gpu": "a100", "model": "m", "quantization": "fp16", "batch_size": 1, "input_tokens": 64, "output_tokens": 128}


def said(*more):
    return [word for pair in (*SAID, *more) for word in ("-p", pair)]


def mapping(**rest):
    return mapping_from({"source": "s", "energies": [ENERGY], "constants": CONSTANTS} | rest)


@pytest.fixture
def summary(eai, scratch):
    """Import files with arguments and summarise; returns the summary and what the command said."""

    def run(*arguments):
        code, out, err = eai("import", *arguments, "--out", "mine", "--json")
        assert code == 0, err
        return summarize(tables.read_windows("mine"), tables.read_energies("mine"), scores=_scores()), json.loads(out)

    return run


def _scores():
    items = tables.read_scores("mine")
    return items if len(items) else None


# --- numbers


@pytest.mark.parametrize("rate", [9.87, 9.10, 1.95, 0.9])
def test_a_rate_of_fractions_stays_ten_joules_a_token(rate, summary, scratch):
    """10 J/token at 9.87, 9.10, 1.95 and 0.9 tok/s: nothing is cut to whole tokens."""
    (scratch / "t.csv").write_text(f"e,rate\n10,{rate}\n")
    document = {
        "energies": [{"column": "e", "unit": "J", "boundary": "gpu", "basis": "published", "per": "token"}],
        "columns": {"throughput_tok_s": "rate"},
    }
    (scratch / "m.json").write_text(json.dumps(document))
    table, _ = summary(scratch / "t.csv", "--mapping", scratch / "m.json", *said())
    assert table["energy_j_per_token"].iloc[0] == pytest.approx(10.0) and table["throughput_tok_s"].iloc[0] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("unit", "joules"),
    [("MWh", 3.6e9), ("mWh", 3.6), ("kWh", 3.6e6), ("kwh", 3.6e6), ("Wh", 3600.0), ("J", 1.0), ("mJ", 1e-3), ("MJ", 1e6), ("joules", 1.0)],
)
def test_units_are_read_as_they_are_spelt(unit, joules):
    assert cells.factor(unit, "J") == pytest.approx(joules)


@pytest.mark.parametrize("unit", ["mwh", "MWH", "mj", "mw"])
def test_a_spelling_that_may_be_milli_or_mega_is_refused(unit):
    with pytest.raises(UserError, match="may be m"):
        cells.factor(unit, "W" if unit == "mw" else "J")


@pytest.mark.parametrize(
    ("header", "name", "factor"),
    [
        ("Energy (MWh)", "energy_wh", 1e6),
        ("Energy (mWh)", "energy_wh", 1e-3),
        ("Energy [kJ]", "energy_j", 1e3),
        ("latency_ms", "latency_s", 1e-3),
        ("Time (min)", "duration_s", 60.0),
        ("Tokens/s", "throughput_tok_s", 1.0),
        ("GPU energy (kWh)", "energy_gpu_j", 3.6e6),
    ],
)
def test_headers_carry_their_units(header, name, factor):
    found, times = mappings.our_column(header)
    assert found == name and times == pytest.approx(factor)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:16:07", 967),
        ("16:07", 967),
        ("1:02:03.5", 3723.5),
        ("1 day, 2:03:04", 93784),
        ("1-02:03:04", 93784),
        ("x", np.nan),
        ("3-02:03", np.nan),
    ],
)
def test_clock_times(text, seconds):
    assert cells.clock_seconds(text) == pytest.approx(seconds, nan_ok=True)


def test_durations_percent_and_header_units_in_a_table(summary, scratch):
    """967 s at 2 Wh; 71.8 % of 1319 items: EOR = 0.718 / 2 Wh, TWEOR over 967 s more."""
    (scratch / "t.csv").write_text("Run time,Energy (Wh),exact match,task\n00:16:07,2,71.8,gsm8k\n")
    document = {
        "energies": [{"column": "Energy (Wh)", "boundary": "gpu", "basis": "measured", "words": "wall plug of the card"}],
        "columns": {"duration_s": "Run time", "score": "exact match", "task": "task"},
        "score_unit": "percent",
        "constants": {"n_items": 1319, "tokens_out": 1000},
        "baseline": "fp16",
    }
    (scratch / "m.json").write_text(json.dumps(document))
    table, answer = summary(scratch / "t.csv", "--mapping", scratch / "m.json", *said())
    row = table.iloc[0]
    assert row["score"] == pytest.approx(0.718) and row["n_items"] == 1319 and row["energy_wh"] == pytest.approx(2.0)
    assert row["eor"] == pytest.approx(0.718 / 2) and row["tweor"] == pytest.approx(0.718 / 2 / 967)
    assert row["eor_low"] != row["eor_low"] or row["eor_low"] < row["eor"]
    assert answer["energies"][0]["words"] == "wall plug of the card" and answer["baseline"] == "fp16"
    (line,) = tables.read_provenance("mine")
    assert line["basis_words"] == {"gpu": "wall plug of the card"} and len(line["files"]["t.csv"]) == 64


@pytest.mark.parametrize(("scores", "match"), [("0.5\n60", "say score_unit"), ("-1\n2", "score of -1")])
def test_scores_in_two_units_are_refused(scores, match):
    frame = pd.DataFrame({"wh": [1.0, 1.0], "s": scores.split("\n"), "t": [1, 2]})
    with pytest.raises(UserError, match=match):
        windows.convert(frame, mapping(columns={"score": "s", "duration_s": "t"}, constants=CONSTANTS | {"task": "mmlu", "tokens_out": 5}))


def test_a_score_of_plain_generation_is_refused():
    frame = pd.DataFrame({"wh": [1.0], "s": [0.5], "t": [1.0]})
    with pytest.raises(UserError, match="plain generation"):
        windows.convert(frame, mapping(columns={"score": "s", "duration_s": "t"}, constants=CONSTANTS | {"tokens_out": 5}))


@pytest.mark.parametrize(
    ("name", "value"), [("duration_s", 0), ("duration_s", -3), ("tokens_out", 0), ("tokens_out", -5), ("requests", -1)]
)
def test_counts_and_times_that_are_not_above_zero_are_not_ok(name, value):
    given = {"duration_s": 10, "tokens_out": 100, "requests": 2} | {name: value}
    found = windows.convert(pd.DataFrame({"wh": [1.0]}), mapping(constants=CONSTANTS | given)).windows.iloc[0]
    assert found["status"] == "invalid" and name in found["reason"] and "not above zero" in found["reason"]


def test_a_power_that_no_machine_draws_is_not_ok():
    """50 Wh in 10 s are 18 kW; 3.6 MW is a unit mistaken, unless sixteen cards share it."""
    given = CONSTANTS | {"duration_s": 10, "tokens_out": 100}
    found = windows.convert(pd.DataFrame({"wh": [50.0, 10_000.0]}), mapping(constants=given)).windows
    assert list(found["status"]) == ["ok", "invalid"] and "3,600,000 W" in found["reason"][1]
    found = windows.convert(pd.DataFrame({"wh": [10_000.0]}), mapping(constants=given | {"num_gpus": 16})).windows
    assert list(found["status"]) == ["ok"]


def test_cells_with_units_come_in_the_commonest_of_them():
    values, seen, unread = cells.numeric(pd.Series(["2 kWh", "500 Wh", "3 kWh", "n/a", "what"]))
    assert values[:3].tolist() == [2.0, 0.5, 3.0] and np.isnan(values[3:]).all()
    assert (seen["kWh"], seen["Wh"], unread.tolist()) == (2, 1, [4])


def test_a_mapping_nested_too_deeply_is_one_line(tmp_path):
    (tmp_path / "m.yaml").write_text("[" * 5_000)
    with pytest.raises(UserError, match="nests too deep"):
        yaml_mapping(tmp_path / "m.yaml", "a mapping")
    (tmp_path / "m.yaml").write_text("columns: {duration_s: a}\ncolumns: {tokens_out: b}\n")
    with pytest.raises(UserError, match="'columns' is given twice"):
        yaml_mapping(tmp_path / "m.yaml", "a mapping")


def test_a_constant_may_stand_on_either_side_of_a_comparison():
    frame = pd.DataFrame({"a": [1.0, 5.0, 9.0]})
    assert evaluate("1 if 5 < a else 0", frame).tolist() == [0, 0, 1] == evaluate("1 if a > 5 else 0", frame).tolist()


def test_a_number_that_is_none_names_its_row_and_column():
    frame = pd.DataFrame({"wh": [1.0, 2.0], "secs": ["5", "five"]})
    with pytest.raises(UserError, match="duration_s, row 2, column secs is 'five'"):
        windows.convert(frame, mapping(columns={"duration_s": "secs"}))


# --- expressions

FRAME = pd.DataFrame(
    {
        "p": [100.0, 50.0],
        "t (s)": [2.0, 4.0],
        "a.b": [1.0, np.nan],
        "names": [["x", "y"], ["z"]],
        "ns": [[1.0, 2.0], [3.0]],
        "q": ["A", "b"],
    }
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("p * `t (s)`", [200.0, 200.0]),
        ("-p + 2 ** 3", [-92.0, -42.0]),
        ("first(a.b, 7)", [1.0, 7.0]),
        ("first(nowhere, p)", [100.0, 50.0]),
        ("names[0]", ["x", "z"]),
        ("total(ns)", [3.0, 3.0]),
        ("max(p, 60)", [100.0, 60.0]),
        ("round(p / 3)", [33.0, 17.0]),
        ("lower(q)", ["a", "b"]),
        ("1 if q == 'A' else 0", [1, 0]),
        ("text(q, '-', p)", ["A-100.0", "b-50.0"]),
        ("p", [100.0, 50.0]),
    ],
)
def test_expressions(text, wanted):
    assert evaluate(text, FRAME).tolist() == wanted


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "p.__class__",
        "(lambda: 1)()",
        "[x for x in p]",
        "open('f')",
        "p @ p",
        "eval('1')",
        "p if",
        "p" * 600,
        "first.__globals__",
        "do_first(p)",
        "`p`.sum()",
    ],
)
def test_an_expression_runs_nothing(text):
    with pytest.raises(UserError) as caught:
        evaluate(text, FRAME)
    assert len(str(caught.value)) < 400


def test_a_column_that_is_not_there_names_the_nearest():
    with pytest.raises(UserError, match="nearest: duration"):
        evaluate("duratoin / 2", pd.DataFrame({"duration": [1.0], "x": [2.0]}))


def test_cells_are_filled_down_and_split():
    frame = pd.DataFrame({"gpu": ["a100", "", None], "run": ["bs8+tp2", "bs16+tp2", "bs8+tp4"]})
    found = mappings.prepared(frame, mapping_from({"energies": [ENERGY], "fill_down": ["gpu"], "split": {"run": "bs{bs}+tp{tp}"}}))
    assert found["gpu"].tolist() == ["a100"] * 3 and found["bs"].tolist() == ["8", "16", "8"] and found["tp"].tolist() == ["2", "2", "4"]


def test_a_mapping_that_stands_the_wrong_way_round_says_so():
    with pytest.raises(UserError, match="our name stands left"):
        mapping_from({"energies": [ENERGY], "seconds": "duration_s"})
    with pytest.raises(UserError, match="nearest: duration_s"):
        mapping_from({"energies": [ENERGY], "columns": {"durations": "s"}})


# --- what differs within a configuration


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("gpus", [1, 2, 1, 2]),
        ("engine", ["vllm", "tgi"] * 2),
        ("Tensor parallel", [1, 2, 4, 8]),
        ("serving stack", ["a", "b", "c", "d"]),
        ("max_num_seqs", [8, 16, 32, 64]),
        ("t", [0.0, 0.7, 0.0, 0.7]),
    ],
)
def test_rows_that_differ_in_an_unmapped_factor_are_refused_and_never_pooled(column, values):
    frame = pd.DataFrame({"wh": [1.0, 2.0, 3.0, 4.0], column: values})
    with pytest.raises(UserError, match="differ in column") as caught:
        windows.convert(frame, mapping(constants=CONSTANTS | {"duration_s": 5, "tokens_out": 50}))
    assert column in str(caught.value) and len(str(caught.value)) < 420
    named = mapping(constants=CONSTANTS | {"duration_s": 5, "tokens_out": 50}, options={"factor": f"`{column}`"})
    assert windows.convert(frame, named).windows["configuration_id"].nunique() == len(set(values))
    let = mapping(constants=CONSTANTS | {"duration_s": 5, "tokens_out": 50}, ignore=[column])
    assert windows.convert(frame, let).windows["configuration_id"].nunique() == 1


def test_measurements_and_runs_within_a_configuration_are_repeats():
    frame = pd.DataFrame(
        {"wh": [1.0, 2.0, 3.0], "run_id": ["r1", "r2", "r3"], "gpu_temp_c": [60, 61, 60], "avg_power_w": [200.1, 201.5, 199.3]}
    )
    found = windows.convert(frame, mapping(constants=CONSTANTS | {"duration_s": 5, "tokens_out": 50}))
    assert found.windows["repeat"].tolist() == [1, 2, 3] and any("run_id" in note for note in found.notes)


def test_where_it_ran_goes_to_the_options_and_its_defaults_do_not():
    frame = pd.DataFrame(
        {"wh": [1.0, 2.0], "card": ["8 x NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"], "eng": ["vLLM", "transformers"], "tp": [8, 1]}
    )
    columns = {"gpu": "card", "engine": "eng", "tensor_parallel": "tp"}
    constants = {k: v for k, v in CONSTANTS.items() if k != "gpu"} | {"duration_s": 5, "tokens_out": 50}
    found = windows.convert(frame, mapping(columns=columns, constants=constants)).windows
    assert [json.loads(o) for o in found["options"]] == [{"engine": "vLLM", "num_gpus": 8, "tensor_parallel": 8}, {}]
    assert set(found["gpu"]) == {"a100_sxm_80gb"}


# --- tools


def test_ml_energy_3_nested_as_published(summary, scratch):
    row = {
        "model_id": "Qwen/Qwen3-14B",
        "gpu_model": "H100",
        "num_gpus": 4,
        "tensor_parallel": 4,
        "expert_parallel": 1,
        "data_parallel": 1,
        "max_num_seqs": 8,
        "energy_per_token_joules": 0.875,
        "energy_per_request_joules": 6060.0,
        "avg_output_len": 6930.4,
        "output_throughput_tokens_per_sec": 553.3,
        "weight_precision": "bfloat16",
        "median_itl_ms": 14.4,
        "p95_itl_ms": 15.6,
        "nickname": "Q",
    }
    (scratch / "gpqa.json").write_text(
        json.dumps({"configurations": [row, row | {"num_gpus": 8, "energy_per_token_joules": 1.5}], "task": "gpqa"})
    )
    table, answer = summary(scratch / "gpqa.json")
    assert (
        sorted(table["energy_j_per_token"]) == pytest.approx([0.875, 1.5])
        and set(table["quantization"]) == {"bf16"}
        and set(table["task"]) == {"gpqa"}
    )
    assert {json.loads(o)["num_gpus"] for o in table["options"]} == {4, 8} and table["energy_j_per_request"].min() == pytest.approx(
        0.875 * 6930.4
    )
    assert tables.read_windows("mine")["itl_s"].tolist() == pytest.approx([0.0144, 0.0144]) and "ML.ENERGY" in answer["source"]


def test_ml_energy_2_from_its_path_and_columns(summary, scratch):
    folder = scratch / "llm_text_generation" / "chat" / "A100"
    folder.mkdir(parents=True)
    row = {
        "Model": "google/gemma-2-27b-it",
        "GPU": "NVIDIA A100-SXM4-40GB",
        "TP": 4,
        "PP": 1,
        "Energy/req (J)": 230.0,
        "Avg TPOT (s)": 0.112,
        "Token tput (tok/s)": 1051.0,
        "Avg Output Tokens": 392.5,
        "Avg BS (reqs)": 127.7,
        "Max BS (reqs)": 128,
    }
    (folder / "bs128.json").write_text(json.dumps(row))
    table, _ = summary(folder / "bs128.json", "-p", "quantization=bf16")
    assert table["energy_j_per_request"].iloc[0] == pytest.approx(230.0) and table["task"].iloc[0] == "chat"
    assert json.loads(table["options"].iloc[0]) == {"num_gpus": 4, "tensor_parallel": 4}


def test_zeus_has_one_device_a_column(summary, scratch):
    (scratch / "zeus.csv").write_text("start_time,window_name,elapsed_time,gpu0_energy,gpu1_energy\n1767261600.5,decode,10,1000,3000\n")
    table, answer = summary(scratch / "zeus.csv", *said("tokens_out=100"))
    assert table["energy_j_per_token"].iloc[0] == pytest.approx(40.0) and "Zeus" in answer["source"]


def test_tokenpowerbench_batches(summary, scratch):
    body = {
        f"batch_{b}": {
            "total_output_tokens": 100 * b,
            "energy": {"duration": 5.0, "gpu_energy_j": 1000.0, "system_energy_j": None, "num_responses": b},
        }
        for b in (1, 8)
    }
    (scratch / "results.json").write_text(json.dumps(body))
    table, _ = summary(scratch / "results.json", *[w for pair in SAID if "batch" not in pair for w in ("-p", pair)])
    assert table.set_index("batch_size")["energy_j_per_token"].to_dict() == pytest.approx({1: 10.0, 8: 1.25})


BEGAN_S = 1767261600


def power_log(path, watts):
    """Two readings a second from BEGAN_S on, local time as nvidia-smi writes it."""
    lines = ["timestamp, index, power.draw [W]"]
    for i in range(2 * len(watts)):
        at = datetime.datetime.fromtimestamp(BEGAN_S + 0.5 * i)
        lines.append(f"{at:%Y/%m/%d %H:%M:%S.%f}"[:-3] + f", 0, {watts[i // 2]:.2f} W")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_serving_benchmarks_with_a_power_log_beside_them(summary, eai, scratch):
    """100 W for 60 s, then 200 W for 60 s: 40 s in the first minute are 4000 J over 800 tokens."""
    power_log(scratch / "power.csv", [100.0] * 60 + [200.0] * 60)
    date = datetime.datetime.fromtimestamp(BEGAN_S + 50)
    vllm = {
        "date": f"{date:%Y%m%d-%H%M%S}",
        "backend": "vllm",
        "model_id": "Qwen/Qwen2-7B",
        "request_rate": "inf",
        "max_concurrency": 8,
        "duration": 40.0,
        "completed": 10,
        "total_input_tokens": 655,
        "total_output_tokens": 800,
        "request_throughput": 0.25,
        "output_throughput": 20.0,
        "mean_ttft_ms": 30.0,
        "median_ttft_ms": 25.0,
    }
    (scratch / "vllm.json").write_text(json.dumps(vllm))
    table, _ = summary(scratch / "vllm.json", "--power", scratch / "power.csv", "-p", "gpu=a100", "-p", "quantization=fp16")
    row, window = table.iloc[0], tables.read_windows("mine").iloc[0]
    assert row["energy_j_per_token"] == pytest.approx(4000 / 800, rel=1e-3) and row["batch_size"] == 8 and row["output_tokens"] == 80
    assert window["ttft_s"] == pytest.approx(0.025) and json.loads(row["options"]) == {"engine": "vllm", "request_rate": "inf"}
    guide = {
        "benchmarks": [
            {
                "start_time": BEGAN_S + 70.0,
                "end_time": BEGAN_S + 110.0,
                "config": {"backend": {"model": "Qwen/Qwen2-7B"}, "strategy": {"type_": "concurrent", "streams": 4}},
                "metrics": {
                    "request_totals": {"successful": 20},
                    "output_token_count": {"successful": {"mean": 50.0}},
                    "prompt_token_count": {"successful": {"mean": 64.2}},
                    "time_to_first_token_ms": {"successful": {"median": 30.0}},
                    "inter_token_latency_ms": {"successful": {"median": 9.0}},
                },
            }
        ]
    }
    (scratch / "guide.json").write_text(json.dumps(guide))
    code, _, err = eai(
        "import",
        scratch / "guide.json",
        "--power",
        scratch / "power.csv",
        "-p",
        "gpu=a100",
        "-p",
        "quantization=fp16",
        "--out",
        "other",
        "--json",
    )
    assert code == 0, err
    found = summarize(tables.read_windows("other"), tables.read_energies("other")).iloc[0]
    assert found["energy_j_per_token"] == pytest.approx(8000 / 1000, rel=1e-3) and found["batch_size"] == 4
    code, _, err = eai("import", scratch / "vllm.json", "-p", "gpu=a100", "-p", "quantization=fp16", "--out", "third")
    assert code == 2 and "name it with --power" in err


def test_llama_bench_names_its_strategy_and_its_build(scratch):
    row = {
        "build_number": 6111,
        "gpu_info": "NVIDIA GeForce RTX 4090",
        "model_filename": "/m/qwen2-7b-Q4_K_M.gguf",
        "model_type": "qwen2 7B Q4_K - Medium",
        "n_prompt": 0,
        "n_gen": 128,
        "n_depth": 0,
        "test_time": "2026-01-01T10:00:00Z",
        "avg_ts": 100.0,
        "samples_ns": [1.28e9, 1.28e9],
        "samples_ts": [100.0, 100.0],
    }
    (scratch / "b.json").write_text(json.dumps([row]))
    asked = imports.Asked((scratch / "b.json",), power=scratch / "x.csv")
    found = imports.read(asked, lambda log: lambda a, b: [{"device_id": "gpu0", "energy_j": 300.0 * (b - a)}])
    window = found.windows.iloc[0]
    assert window["quantization"] == "gguf_q4_k_m" and window["gpu"] == "rtx4090" and window["duration_s"] == pytest.approx(2.56)
    assert json.loads(window["options"])["engine_version"] == "6111"


def test_ranks_of_one_machine_are_one_run(summary, scratch):
    header = "timestamp,run_id,duration,emissions,cpu_energy,gpu_energy,ram_energy,energy_consumed,gpu_count,gpu_model,tracking_mode\n"
    for rank in range(3):
        row = f"2026-05-05T04:04:{40 + rank},r{rank},36000,1,1,8.0,0.1,9.1,8,8 x NVIDIA A40,machine\n"
        (scratch / f"emissions_{rank}.csv").write_text(header + row)
    files = sorted(scratch.glob("emissions_*.csv"))
    table, answer = summary(*files, *[w for pair in SAID if "gpu" not in pair for w in ("-p", pair)], "-p", "tokens_out=1000000")
    assert (
        answer["used"] == 1
        and answer["dropped"][0]["rows"] == [2, 3]
        and table["energy_j_per_token"].iloc[0] == pytest.approx(8 * 3.6e6 / 1e6)
    )
    assert json.loads(table["options"].iloc[0])["num_gpus"] == 8 and any("8 cards" in note for note in answer["notes"])


def test_lm_eval_scores_join_the_energy_of_the_same_task(summary, eai, scratch):
    (scratch / "t.csv").write_text("model,task,wh,s\nmistralai/Mistral-7B-v0.1,gsm8k,5,100\n")
    document = {
        "energies": [ENERGY],
        "columns": {"model": "model", "task": "task", "duration_s": "s"},
        "constants": {"requests": 1319, "input_tokens": 0, "output_tokens": 0},
    }
    (scratch / "m.json").write_text(json.dumps(document))
    results = {
        "results": {"gsm8k": {"exact_match,strict-match": 0.5}},
        "n-samples": {"gsm8k": {"effective": 1319}},
        "config": {"model_args": "pretrained=mistralai/Mistral-7B-v0.1,dtype=float16"},
    }
    (scratch / "r.json").write_text(json.dumps(results))
    more = ["-p", "gpu=a100", "-p", "quantization=fp16", "-p", "batch_size=8"]
    table, _ = summary(scratch / "t.csv", "--mapping", scratch / "m.json", "--scores", scratch / "r.json", *more)
    assert table["eor"].iloc[0] == pytest.approx(0.5 / 5) and table["n_items"].iloc[0] == 1319
    results["results"] = {"arc_challenge": {"acc_norm,none": 0.4}}
    (scratch / "r.json").write_text(json.dumps(results))
    code, _, err = eai(
        "import", scratch / "t.csv", "--mapping", scratch / "m.json", "--scores", scratch / "r.json", *more, "--out", "other"
    )
    assert code == 2 and "which no row measured" in err


def test_a_guess_is_a_mapping_that_reads(eai, scratch):
    (scratch / "t.csv").write_text("GPU,Model,Quant,Batch,Energy (Wh),Time (s),Tokens,Score (%)\nA100,m,fp16,1,2,10,100,70\n")
    code, out, _ = eai("import", scratch / "t.csv", "--guess")
    assert code == 0 and "'?'" in out and "Energy (Wh)" in out
    import yaml

    document = yaml.safe_load(out)
    assert (
        document["columns"]["gpu"] == "GPU"
        and document["energies"][0]["column"] == "Energy (Wh)"
        and document["constants"] == {"input_tokens": 0, "output_tokens": 0, "task": "?", "n_items": "?"}
    )


def test_messages_are_one_short_line(eai, scratch):
    (scratch / "r.json").write_text(json.dumps({"report": {"decode": {"energy": {"gpu": 1.0}}}} | {f"field_{i}": i for i in range(300)}))
    code, _, err = eai("import", scratch / "r.json", "--format", "optimum-benchmark", "--out", "x")
    assert code == 2 and len(err) < 400 and len(err.splitlines()) == 1


def test_a_killed_import_leaves_nothing_in_the_way(scratch, monkeypatch):
    frame = pd.DataFrame({"wh": [1.0], "s": [2.0]})
    found = windows.convert(frame, mapping(columns={"duration_s": "s"}, constants=CONSTANTS | {"tokens_out": 5}))
    part = tables.experiment_dir("mine").with_name(".mine.part")
    (part / "job").mkdir(parents=True)
    (part / "job" / "windows.jsonl").write_text("{}\n")
    tables.require_new(tables.experiment_dir("mine"))
    folder = tables.write_experiment("mine", found.windows, found.energies)
    assert len(tables.read_windows("mine")) == 1 and not part.exists() and folder.is_dir()
    (scratch / "link").symlink_to(folder)
    with pytest.raises(UserError, match="symbolic link"):
        tables.require_new(scratch / "link")


def test_names_that_a_spreadsheet_would_run_are_text(scratch):
    frame = pd.DataFrame({"gpu": ["=1+1", "@x", "a100", "-3"], "n": [1, -2, 3, 4]})
    path = tables.write_result("mine", "summary", frame)
    assert "'=1+1" in path.read_text() and "\n=1" not in path.read_text()
    assert tables.read_result("mine", "summary")["gpu"].tolist() == frame["gpu"].tolist()


# --- guards: each a mapping or a table that cannot be meant

MEANT_ROWS = {"gpu": ["a100"] * 3, "model": ["m"] * 3, "quantization": ["fp16", "nf4", "fp16"], "batch_size": [1, 1, 1]}
MEANT_ROWS |= {
    "input_tokens": [64] * 3,
    "output_tokens": [64] * 3,
    "tokens_out": [640] * 3,
    "duration_s": [10.0] * 3,
    "j": [2000.0, 1500.0, 2001.0],
}
MEANT_ENERGY = {"column": "j", "unit": "J", "boundary": "gpu", "basis": "measured"}
MEANT = {"energies": [MEANT_ENERGY], "columns": {k: k for k in MEANT_ROWS if k != "j"}}


@pytest.mark.parametrize(
    ("more", "cells_", "words"),
    [
        ({"columns": ["j"]}, {}, "columns of the mapping is"),
        ({"energies": "j"}, {}, "energies of the mapping: 'j'"),
        ({"per": "day"}, {}, "per: day"),
        ({"log_boundary": "rack"}, {}, "log_boundary: rack"),
        ({"constants": {"engine": "?"}}, {}, "engine is still '?'"),
        ({"fill_down": ["run"]}, {}, "no column run"),
        ({"split": {"model": "{a}+{b}"}}, {}, "fits no cell of model, such as 'm'"),
        ({"split": {"model": "x"}}, {}, "text with {name} for each part"),
        ({"block": "run"}, {"run": [1, None, 2]}, "row 2 names no run"),
        ({"constants": {"num_gpus": 2}}, {"gpu": ["8 x a100"] * 3}, "gpu says 8 cards and num_gpus 2"),
        ({"columns": MEANT["columns"] | {"options": "o"}}, {"o": ["[1"] * 3}, "options '[1'"),
        ({"energies": [{**MEANT_ENERGY, "unit": ""}]}, {}, "has no unit"),
        ({"columns": MEANT["columns"] | {"started_at": "when"}}, {"when": ["soon"] * 3}, "started_at, row 1 is 'soon'"),
        ({"columns": MEANT["columns"] | {"tokens_out": "'x' + 1"}}, {}, "reckons with text"),
    ],
)
def test_what_cannot_be_meant_is_refused(more, cells_, words):
    with pytest.raises(UserError) as error:
        windows.import_table(pd.DataFrame(MEANT_ROWS | cells_), mapping_from(MEANT | more))
    assert words in str(error.value)


def test_scores_above_one_are_percent_and_options_may_be_json():
    columns = MEANT["columns"] | {"score": "s", "options": "o"}
    said = {"s": [62.5, 50.0, 62.5], "o": ['{"engine": "vllm"}'] * 3}
    constants = {"task": "gsm8k", "n_items": 100}
    found = windows.convert(pd.DataFrame(MEANT_ROWS | said), mapping_from(MEANT | {"columns": columns, "constants": constants}))
    assert list(found.scores["score"]) == [0.625, 0.5, 0.625] and set(found.windows["options"]) == {'{"engine":"vllm"}'}
    assert any("score is read in percent" in note for note in found.notes)


def test_requests_side_by_side_take_the_time_from_the_first_to_the_last():
    """Three requests of 10 s that began 2 s apart: 14 s and 5,501 J, not 30 s."""
    columns = {k: v for k, v in MEANT["columns"].items() if k != "duration_s"} | {"started_at": "a", "ended_at": "b"}
    frame = pd.DataFrame(MEANT_ROWS | {"quantization": ["fp16"] * 3, "a": [0.0, 2.0, 4.0], "b": [10.0, 12.0, 14.0]})
    found = windows.convert(frame, mapping_from(MEANT | {"columns": columns, "per": "request"}))
    assert list(found.windows["duration_s"]) == [14.0] and list(found.energies["energy_j"]) == [5501.0]


@pytest.mark.parametrize(("names", "found"), [("['A10G', 'A10G']", (2, "A10G")), (["A40", "L4"], (1, "A40, L4")), ("[A10G", (1, "[A10G"))])
def test_a_list_of_cards_is_counted(names, found):
    assert mappings.boards(names) == found
