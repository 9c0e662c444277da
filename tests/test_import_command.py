"""`eai import`: files in the shapes that their tools write become experiments, and what is left out is said."""

import datetime
import json

import numpy as np
import pytest

from eai import tables
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.importers.reading import read_table

GIVEN = ["model=mistralai/Mistral-7B-v0.1", "batch_size=4", "input_tokens=512", "output_tokens=128", "tokens_out=512"]
CODECARBON = "timestamp,duration,gpu_energy,cpu_energy,ram_energy,gpu_model\n"
BEGAN_S = 1767261600.0


def given(*pairs):
    return [word for pair in (*pairs,) for word in ("-p", pair)]


def test_a_table_of_a_known_tool(eai, scratch):
    """3.6e6 J per kWh; a row without any energy is left out, one without the card's is in no analysis, and both are said."""
    rows = ["a,10,0.0005,0.001,0.0001,1 x NVIDIA GeForce RTX 4090", "b,10,,,,RTX 4090", "c,10,n/a,0.001,0.0001,RTX 4090"]
    (scratch / "emissions.csv").write_text(CODECARBON + "\n".join(rows) + "\n")
    code, out, err = eai("import", scratch / "emissions.csv", "--format", "codecarbon", *given(*GIVEN, "quantization=fp16"),
                         "--out", "mine", "--json")  # fmt: skip
    answer = json.loads(out)
    assert (code, err) == (0, "") and (answer["rows"], answer["used"], answer["configurations"]) == (3, 2, 1)
    assert [(e["boundary"], e["basis"], e["windows"]) for e in answer["energies"]] == [
        ("gpu", "measured", 1), ("cpu_package", "estimated", 2), ("dram", "estimated", 2)]  # fmt: skip
    assert [(d["rows"], d["status"]) for d in answer["dropped"]] == [([2], "invalid")] and "not measured" in answer["dropped"][0]["reason"]
    assert answer["unused_columns"] == []
    assert any("1 of these rows have no energy of boundary gpu" in note for note in answer["notes"])
    energies = tables.read_energies("mine")
    assert energies.loc[energies["boundary"] == "gpu", "energy_j"].tolist() == pytest.approx([0.0005 * 3.6e6])
    code, out, err = eai(
        "import", scratch / "emissions.csv", "--format", "codecarbon", *given(*GIVEN, "quantization=fp16"), "--out", "mine"
    )
    assert code == 2 and "already" in err


def test_a_mapping_completes_a_tool_and_p_goes_before_both(eai, scratch):
    """The tool's own JSON, nested as it is; quantization by the mapping's column, gpu by -p."""
    reports = [{
        "config": {"backend": {"model": "mistralai/Mistral-7B-v0.1", "scheme": scheme}, "scenario": {
            "input_shapes": {"batch_size": 2, "sequence_length": 16}, "generate_kwargs": {"max_new_tokens": 101}}},
        "report": {"decode": {"energy": {"gpu": kwh, "cpu": kwh / 2, "ram": kwh / 9}, "latency": {"mean": 2.0},
                              "throughput": {"value": 100.0}}},
    } for scheme, kwh in (("fp16", 1e-5), ("nf4", 2e-5))]  # fmt: skip
    files = [scratch / f"{i}.json" for i in range(2)]
    for file, report in zip(files, reports, strict=True):
        file.write_text(json.dumps(report))
    (scratch / "m.json").write_text(json.dumps({"columns": {"quantization": "config.backend.scheme"}, "constants": {"gpu": "t4"}}))
    words = ["--format", "optimum-benchmark", "--mapping", scratch / "m.json", *given("gpu=a100", "model=Qwen/Qwen2-7B")]
    code, out, _ = eai("import", *files, *words, "--out", "mine")
    assert code == 0 and "2 of 2 rows" in out and "note: one block" in out
    summary = summarize(tables.read_windows("mine"), tables.read_energies("mine")).set_index("quantization")
    assert set(summary["gpu"]) == {"a100_sxm_80gb"} and set(summary["model"]) == {"qwen2-7b"} and list(summary.index) == ["fp16", "nf4"]
    assert summary.loc["nf4", "energy_j_per_token"] == pytest.approx(2e-5 * 3.6e6 / 200)


def power_log(path, watts):
    """A log of two readings a second; `watts` for each second."""
    lines = ["timestamp, index, power.draw [W]"]
    for i in range(2 * len(watts)):
        at = datetime.datetime.fromtimestamp(BEGAN_S) + datetime.timedelta(seconds=0.5 * i)
        lines.append(f"{at:%Y/%m/%d %H:%M:%S}.{500 * (i % 2):03d}, 0, {watts[i // 2]:.2f} W")
    path.write_text("\n".join(lines) + "\n")


def test_a_power_log_and_its_phases(eai, scratch):
    """100 W for 60 s, then 200 W; a phase well inside each."""
    power_log(scratch / "power.csv", [100.0] * 60 + [200.0] * 60)
    (scratch / "phases.csv").write_text("start_s,stop_s,quantization,tokens_out\n10,50,fp16,1000\n70,110,nf4,1000\n")
    given_too = given("gpu=a100", *GIVEN[:-1])
    words = ["import", scratch / "power.csv", "--format", "nvidia-smi", "--phases", scratch / "phases.csv", *given_too, "--out", "mine"]
    code, out, err = eai(*words)
    assert (code, err) == (0, "") and "energy: gpu, measured, of 2 windows" in out
    table = summarize(tables.read_windows("mine"), tables.read_energies("mine")).set_index("quantization")
    assert table["energy_j_per_token"].to_dict() == pytest.approx({"fp16": 4.0, "nf4": 8.0})
    terms = tables.read_energies("mine").set_index("energy_j")
    assert terms.loc[terms.index.min(), "u_gain_j"] == pytest.approx(0.05 * 4000, rel=1e-3)
    (scratch / "phases.csv").write_text("start_s,stop_s,quantization,tokens_out\n10,500,fp16,1000\n")
    code, _, err = eai(*words[:-1], "other")
    assert code == 2 and "a phase from 10.0 to 500.0 s of a power log of 119.5 s" in err


def evaluation(folder, name, arguments, right, began_s):
    """What lm_eval --log_samples leaves: results, and the items under both filters of GSM8K."""
    document = {
        "results": {"gsm8k": {"alias": "gsm8k", "exact_match,strict-match": float(np.mean(right)), "exact_match,flexible-extract": 0.9}},
        "versions": {"gsm8k": 3.0}, "n-shot": {"gsm8k": 5}, "n-samples": {"gsm8k": {"original": 1319, "effective": len(right)}},
        "config": {"model_args": f"pretrained=mistralai/Mistral-7B-v0.1,{arguments}", "batch_size": "8", "limit": len(right)},
        "date": began_s, "total_evaluation_time_seconds": "40.0",
    }  # fmt: skip
    rows = [{"doc_id": i, "filter": f, "exact_match": r if f == "strict-match" else 1} for i, r in enumerate(right)
            for f in ("strict-match", "flexible-extract")]  # fmt: skip
    (folder / f"results_{name}.json").write_text(json.dumps(document))
    (folder / f"samples_gsm8k_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / f"results_{name}.json"


def test_evaluations_beside_a_power_log_have_energy_and_scores(eai, scratch):
    """100 W for 40 s are 4 kJ = 1.111 Wh; 7 of 10 right: EOR = 0.7 / 1.111 by the study's definition."""
    power_log(scratch / "power.csv", [100.0] * 60 + [200.0] * 60)
    right = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    files = [
        evaluation(scratch, "a", "dtype=float16", right, BEGAN_S + 10),
        evaluation(scratch, "b", "load_in_4bit=True,bnb_4bit_quant_type=nf4", right[::-1], BEGAN_S + 70),
    ]
    code, out, err = eai("import", *files, "--format", "lm-eval", "--power", scratch / "power.csv", "-p", "gpu=a100", "--out", "mine")
    assert (code, err) == (0, "") and "scores: 20 items" in out and "load of the model included" in out
    table = summarize(tables.read_windows("mine"), tables.read_energies("mine"), scores=tables.read_scores("mine"))
    table = table.set_index("quantization")
    assert table["score"].to_dict() == pytest.approx({"fp16": 0.7, "nf4": 0.7})
    assert table["eor"].to_dict() == pytest.approx({"fp16": 0.7 / (4000 / 3600), "nf4": 0.7 / (8000 / 3600)})
    assert json.loads(table.loc["nf4", "options"]) == {"fewshot": 5, "limit": 10, "version": "3.0"}
    (scratch / "samples_gsm8k_b.jsonl").write_text('{"doc_id": 0, "filter": "strict-match", "exact_match": 1}\n')
    code, _, err = eai("import", files[1], "--format", "lm-eval", "--power", scratch / "power.csv", "-p", "gpu=a100", "--out", "other")
    assert code == 2 and "score 1.000000 and the document says 0.700000" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["t.csv", "--out", "x"], "no known tool by these columns"),
        (["t.csv", "--format", "codcarbon", "--out", "x"], "format 'codcarbon'"),
        (["none.csv", "--format", "codecarbon", "--out", "x"], "no file none.csv"),
        (["t.csv", "--format", "codecarbon", "--out", "x"], "the source does not say model, quantization"),
        (["t.csv", "--mapping", "none.yaml", "--out", "x"], "cannot read none.yaml (no such file)"),
        (["t.csv", "--mapping", "list.yaml", "--out", "x"], "list.yaml holds list"),
        (["t.csv", "--mapping", "broken.yaml", "--out", "x"], "broken.yaml is not YAML at line 2"),
        (["t.csv", "--format", "lm-eval", "--out", "x"], "name it with --power"),
        (["t.csv", "--format", "nvidia-smi", "--out", "x"], "name it with --phases"),
        (["ragged.csv", "--format", "codecarbon", "--out", "x"], "line 3 has 2 fields"),
        (["t.csv", "--format", "codecarbon", *given(*GIVEN, "quantization=fp16"), "--out", "x"], "none of the 1 rows can be used"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_nothing_is_written(eai, scratch, monkeypatch, arguments, words):
    monkeypatch.chdir(scratch)
    (scratch / "t.csv").write_text(CODECARBON + "a,10,0,,,RTX 4090\n")
    (scratch / "ragged.csv").write_text(CODECARBON + "a,10,0,,,RTX 4090\n1,2\n")
    (scratch / "list.yaml").write_text("- a\n- b\n")
    (scratch / "broken.yaml").write_text("a: 1\nb: ]\n")
    code, out, err = eai("import", *arguments)
    assert code == 2 and out == "" and words in err and len(err.splitlines()) == 1
    assert not (scratch / "data" / "runs" / "x").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\ufeffgpu,energy\n a100 ,0.5\n\n"),
        ("b.csv", "gpu;energy\na100;0,5\n"),
        ("c.tsv", "gpu\tenergy\na100\t0.5\n"),
        ("d.jsonl", '{"gpu": "a100", "energy": 0.5}\n\n'),
        ("e.json", '[{"gpu": "a100", "energy": 0.5}]'),
        ("f.csv", 'gpu,energy\n"a100","0.5"\r\n'),
    ],
)
def test_one_table_in_the_notations_of_many_tools(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    (row,) = read_table(tmp_path / name).to_dict("records")
    assert (row["gpu"], float(row["energy"])) == ("a100", 0.5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"a\0b", "is not text"),
        ("a.json", b'{\n"a": ', "line 2 is not JSON"),
        ("a.json", b"[1, 2]", "holds no rows"),
        ("a.jsonl", b'{"a": 1}\n{"a"\n', "line 2 is not JSON"),
        ("a.parquet", b"PAR0", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)
