"""Tables as strangers have them, through guess, check and import: right, or refused with one line that says what to do.

Every table is made up in a shape that people use; expected joules are plain arithmetic on the printed cells.
"""

import json

import pandas as pd
import pytest
import yaml

from eai import tables
from eai.analyze.summary import summarize
from eai.cells import plain_number
from eai.importers.mappings import RECOGNISED, boards, our_column

EXCEL = "\ufeffGPU;Modell;Quantisierung;Batch;Energie (Wh);Leistung (W);Dauer (s);Tokens\n"
EXCEL += "RTX 4090;Llama-2-7B;fp16;1;12,53;301,2;149,8;7.240\nRTX 4090;Llama-2-7B;nf4;1;9,87;233,4;152,2;6.250\n"
UNITS = """Model,GPU,Quantization,Batch,Energy,Time,Tokens
,,,,Wh,s,
Mistral-7B,A100,fp16,8,4.21,60.2,12800
Mistral-7B,A100,nf4,8,3.02,71.5,12800
"""
MERGED = """Setup,,,,Results,,
Model,GPU,Quant,Batch,Energy (J),Tokens,Time (s)
Qwen2.5-7B,A100,bf16,1,15230,4000,75.1
Qwen2.5-7B,A100,nf4,1,19800,4000,88.3
"""
GROUPED = """model,gpu,quantization,batch_size,tokens,energy_j,seconds
llama-3-8b,H100,bf16,32,"1,250,000","152,300",420
llama-3-8b,H100,fp8,32,"1,250,000","118,900",400
"""
MARKDOWN = """# Results

Some text.

| Model | Quant | tok/s | J/token | GPU | Batch |
|:--|:-:|--:|--:|--|--|
| Llama 3.1 8B | fp16 | 61.2 | 2.42 | A100 | 1 |
| Llama 3.1 8B | nf4 | 44.9 | 3.61 | A100 | 1 |

More text.
"""
SEP = "sep=;\ngpu;model;quantization;batch;energy_wh;duration_s;tokens\na100;m;fp16;1;10,00;144,0;4795\na100;m;nf4;1;8,00;144,0;4320\n"
SPREAD = """Model,Method,Batch,Energy (kJ),Tokens,Time (s),GPU
Llama-2-7B,fp16,1,12.4 ± 0.3,4000,50,A100
Llama-2-7B,nf4,1,9.1 ± 0.2,4000,60,A100
"""
TSV = """GPU\tModell\tMethod\tBatch\tEnergie_J\tTokens\tDauer_s
A100\tm7\tfp16\t1\t12.345,6\t1.000\t60,5
A100\tm7\tnf4\t1\t14.345,6\t1.200\t61,5
"""
TITLE = """Results of our study
gpu,model,quant,batch,energy_j,tokens,seconds
T4,phi-2,fp16,1,1210,200,30
T4,phi-2,nf4,1,1020,200,31
"""
TRAILING = """gpu, model, quantization, batch, energy (kWh), time (h), tokens,,
A100, m, fp16, 4, 1.2e-01, 0.50, 50000,,
A100, m, nf4, 4, 1.0e-01, 0.52, 50000,,
"""
AVERAGES = """gpu,model,quantization,batch_size,avg_tokens_per_s,avg_power_w
A6000,gemma-2-9b,bf16,1,27.43,243.7
A6000,gemma-2-9b,nf4,1,19.02,181.2
"""
DEVICES = """gpu,model,quant,bs,seconds,tokens,gpu0_energy_j,gpu1_energy_j
A40,mixtral,fp16,8,44.2,9000,9800,9750
A40,mixtral,nf4,8,61.0,9000,9100,9080
"""
NESTED = json.dumps({
    "meta": {"host": "n1", "gpu": "NVIDIA A100-SXM4-80GB"},
    "results": [
        {"config": {"model": "m", "quantization": q, "batch": 4}, "metrics": {"gpu_joules": e, "seconds": 6.1, "new_tokens": 1024}}
        for q, e in (("fp16", 1520.5), ("nf4", 1720.5))
    ],
})  # fmt: skip
LINES = "\n".join(
    json.dumps({"gpu": "RTX 3090", "model": "q", "quantization": q, "batch_size": 1, "energy_wh": e, "duration_s": 9.5, "tokens_out": 512})
    for q, e in (("fp16", 0.62), ("nf4", 0.55))
)
RIGHT = {
    "excel.csv": (EXCEL, [12.53 * 3600 / 7240, 9.87 * 3600 / 6250]),
    "units.csv": (UNITS, [4.21 * 3600 / 12800, 3.02 * 3600 / 12800]),
    "merged.csv": (MERGED, [15230 / 4000, 19800 / 4000]),
    "grouped.csv": (GROUPED, [152300 / 1.25e6, 118900 / 1.25e6]),
    "readme.md": (MARKDOWN, [2.42, 3.61]),
    "sep.csv": (SEP, [36000 / 4795, 28800 / 4320]),
    "spread.csv": (SPREAD, [3.1, 2.275]),
    "german.tsv": (TSV, [12.3456, 14345.6 / 1200]),
    "title.csv": (TITLE, [6.05, 5.1]),
    "trailing.csv": (TRAILING, [432000 / 50000, 360000 / 50000]),
    "averages.csv": (AVERAGES, [243.7 / 27.43, 181.2 / 19.02]),
    "devices.csv": (DEVICES, [19550 / 9000, 18180 / 9000]),
    "nested.json": (NESTED, [1520.5 / 1024, 1720.5 / 1024]),
    "lines.jsonl": (LINES, [0.62 * 3600 / 512, 0.55 * 3600 / 512]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_guess_completed_by_what_the_table_does_not_say_imports_the_right_joules(eai, scratch, name):
    """The guess as it is, its '?' answered with -p, gives the joules per token that the cells give by hand."""
    text, joules = RIGHT[name]
    (scratch / name).write_text(text, encoding="utf-8")
    code, out, err = eai("import", scratch / name, "--guess")
    assert code == 0, err
    guess = yaml.safe_load(out)
    (scratch / "m.yaml").write_text(out, encoding="utf-8")
    assert guess["energies"][0]["column"] != "?"
    said = {k: {"input_tokens": 64, "output_tokens": 128}[k] for k, v in guess["constants"].items() if v == "?"}
    words = [word for k, v in said.items() for word in ("-p", f"{k}={v}")]
    code, out, err = eai("import", scratch / name, "--mapping", scratch / "m.yaml", *words, "--out", "mine", "--json")
    assert code == 0, err
    found = summarize(tables.read_windows("mine"), tables.read_energies("mine"))
    assert found["energy_j_per_token"].tolist() == pytest.approx(joules, rel=1e-9) or sorted(found["energy_j_per_token"]) == pytest.approx(
        sorted(joules)
    )


@pytest.mark.parametrize("name", [n for n in RIGHT if n.endswith((".csv", ".tsv", ".md")) and n not in ("devices.csv", "spread.csv")])
def test_check_reads_it_and_finds_nothing_wrong(eai, scratch, name):
    (scratch / name).write_text(RIGHT[name][0], encoding="utf-8")
    code, out, err = eai("check", scratch / name, "--json")
    assert code == 0 and json.loads(out)["counts"].get("consistent", 0) >= 1, err
    assert "inconsistent" not in json.loads(out)["counts"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas_are_checked_as_numbers(eai, scratch, mark):
    """10,00 Wh are 36 kJ, and 250,0 W x 144,0 s too; 20,00 Wh are not."""
    rows = [["gpu", "energy_wh", "power_w", "duration_s"], ["a", "10,00", "250,0", "144,0"], ["b", "8,00", "200,0", "144,0"]]
    (scratch / "t.csv").write_text("\n".join(mark.join(row) for row in rows) + "\n")
    assert eai("check", scratch / "t.csv")[0] == 0
    (scratch / "t.csv").write_text("\n".join(mark.join(row) for row in rows).replace("10,00", "20,00") + "\n")
    code, out, _ = eai("check", scratch / "t.csv")
    assert (code == 1 and "energy [Wh] is printed as 20" in out) or "3600 x energy [Wh]" in out


def test_a_negative_energy_is_flagged_once(eai, scratch):
    (scratch / "t.csv").write_text("gpu,energy_wh,duration_s,power_w,throughput_tok_s\na,-3.2,60,250,100\nb,2.9,60,174,90\n")
    code, out, _ = eai("check", scratch / "t.csv", "--json")
    wrong = [f for f in json.loads(out)["findings"] if f["verdict"] == "inconsistent"]
    assert code == 1 and [f["claim"] for f in wrong] == ["energy_wh is positive"]


HEADER = "gpu,model,quantization,batch_size,energy_wh,duration_s,tokens_out"
REFUSED = {
    "ranks": (
        f"rank,{HEADER}\n0,A100,m,fp16,16,9.1,120,64000\n1,A100,m,fp16,16,9.2,120,64000\n",
        ("column rank", "no repeats", "add their energies up"),
    ),
    "a total row": (f"{HEADER}\nT4,p,fp16,1,1.2,5,200\nTotal,,,,1.2,5,200\n", ("row 2", "model")),
    "a factor that is not mapped": (
        f"{HEADER},driver\nT4,p,fp16,1,1.2,5,200,550\nT4,p,fp16,1,1.9,5,200,535\n",
        ("column driver", "options"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_one_way_is_refused_in_one_line(eai, scratch, name):
    text, says = REFUSED[name]
    (scratch / "t.csv").write_text(text)
    document = {"energies": [{"column": "energy_wh", "unit": "Wh", "boundary": "gpu", "basis": "measured"}]}
    document |= {"columns": {c: c for c in HEADER.split(",") if c != "energy_wh"}}
    (scratch / "m.yaml").write_text(yaml.safe_dump(document))
    said = ("-p", "input_tokens=1", "-p", "output_tokens=1", "--out", "mine")
    code, _, err = eai("import", scratch / "t.csv", "--mapping", scratch / "m.yaml", *said)
    assert code == 2 and err.strip().count("\n") == 0 and len(err) < 420 and all(word in err for word in says), err


def test_a_guess_names_what_it_could_not_read(eai, scratch):
    (scratch / "t.csv").write_text("gpu,model,quantization,batch_size,energy_mj,duration_s\na,m,fp16,1,5,3\n")
    code, out, _ = eai("import", scratch / "t.csv", "--guess")
    assert code == 0 and "energy_mj: unit 'mj' may be mJ or MJ" in out


def test_the_reading_of_a_sheet_is_one_for_import_and_check():
    from eai.importers import reading

    names = ["a", "b", "version", "n"]
    rows = [["1,5", "x", "4.57", "1.000"], ["22,25", "y", "5.20", "2.000"]]
    assert reading.decimal_commas(names, rows) == {"a", "n"}, "a version keeps its point, 1.000 follows the table"
    assert reading.decimal_commas(["n"], [["1,000"]]) == frozenset() and reading.decimal_commas(["n"], [["1,000"]], ";") == {"n"}
    assert [reading.with_point(c) for c in ("12.345,6", "1.000", "0,5 Wh", "name,1")] == ["12345.6", "1000", "0.5 Wh", "name,1"]
    assert pd.isna(reading.with_point(None)) or reading.with_point(None) is None


def test_of_several_tables_the_one_with_energies_is_read_and_two_are_refused(eai, scratch):
    words = "| Metric | What |\n|---|---|\n| `top_1` | exact match |\n\nSome text.\n\n"
    table = "| Model | Energy (Wh) | Time (s) |\n|--|--:|--:|\n| a | **87.6** | 1,283 |\n| b | 155.6 | 2,316 |\n"
    (scratch / "r.md").write_text(words + table)
    code, out, _ = eai("check", scratch / "r.md", "--json")
    read = [f for f in json.loads(out)["findings"] if f["id"].endswith("energy and time above limit")]
    assert code == 0 and read[0]["verdict"] == "consistent" and read[0]["reason"].startswith("2 figures")
    (scratch / "r.md").write_text(words + table + "\n\n" + table)
    code, _, err = eai("check", scratch / "r.md")
    assert code == 2 and "2 tables with energies" in err and "`rows: 1`" in err
    document = {"rows": 3, "energies": [{"column": "Energy (Wh)", "boundary": "machine", "basis": "published"}]}
    document |= {"columns": {"model": "Model", "duration_s": "Time (s)"}}
    (scratch / "r.md").write_text(words + table + "\n\n" + table.replace("Time (s)", "*Time \\[s\\]*").replace("**87.6**", "12.4  0.3"))
    (scratch / "m.yaml").write_text(yaml.safe_dump(document | {"columns": {"model": "Model", "duration_s": "Time [s]"}}))
    code, _, err = eai("check", scratch / "r.md", "--mapping", scratch / "m.yaml")
    assert code == 1, "two numbers in a cell are no number"
    (scratch / "r.md").write_text("no table here\n")
    assert eai("check", scratch / "r.md")[0] == 2


def test_rows_that_nothing_tells_apart_are_not_one_configuration(eai, scratch):
    """Six variants of one machine, named in a column of their own, are no six figures of one configuration."""
    joules = [1.44, 0.55, 0.53, 0.60, 0.68, 0.49]
    plain = "variant,J/token\n" + "".join(f"poll off {i},{j}\n" for i, j in enumerate(joules))
    (scratch / "v.csv").write_text(plain)
    assert "inconsistent" not in eai("check", scratch / "v.csv")[1]
    named = "variant,gpu,model,quantization,J/token\n" + "".join(f"poll off {i},npu,m,int8,{j}\n" for i, j in enumerate(joules))
    (scratch / "v.csv").write_text(named)
    code, out, _ = eai("check", scratch / "v.csv")
    assert code != 1 and "column 'variant'" in out


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("rtx4090", (1, "rtx4090")),
        ("gtx1080", (1, "gtx1080")),
        ("Max1100", (1, "Max1100")),
        ("A100x4", (4, "A100")),
        ("A40 (x8)", (8, "A40")),
    ],
)
def test_an_x_within_a_name_counts_no_cards(name, found):
    assert boards(name) == found


@pytest.mark.parametrize(("cell", "value"), [("1 234.5", 1234.5), ("12.00  0.05", None), ("871 37", None), ("1'234 J", 1234.0)])
def test_two_numbers_in_a_cell_are_none(cell, value):
    found = plain_number(cell)[0]
    assert found == value or (value is None and found != found)


HEADERS = {
    "average_gpu_power_median_watts": ("power_w", 1.0),
    "joules_per_output_token": ("energy_j_per_token", 1.0),
    "end_to_end_tokens_per_second": ("throughput_tok_s", 1.0),
    "Energía (J/token gen)": ("energy_j_per_token", 1.0),
    "Tokens Generados": ("tokens_out", 1.0),
    "Precisión": ("accuracy", 1.0),
    "tok/s/W": ("tokens_per_j", 1.0),
    "Time to first token (ms)": ("ttft_s", 1e-3),
    "gpuEnergyWh": ("energy_gpu_j", 3600.0),
    "J per 1M tokens": ("energy_j_per_token", 1e-6),
    "mJ/token": ("energy_j_per_token", 1e-3),
    "J/10k tokens": ("energy_j_per_token", 1e-4),
    "Wh/500 tokens": ("energy_j_per_token", 7.2),
    "MJ / 1M output tokens": ("energy_j_per_token", 1.0),
    "Energy (Wh/1k tokens)": ("energy_j_per_1k_tok", 3600.0),
    "kWh per million tokens": ("energy_j_per_token", 3.6),
}
NO_HEADERS = (
    "energy_idle_j",
    "decode_tokens_per_second",
    "peak_power_w",
    "energy_wh_low",
    "GPU Busy Time",
    "Throughput Total (tok/s)",
    "J per input token",
    "J/0 tokens",
    "J/000 tokens",
    "tokens/s/GPU",
    "TPS per user",
    "cpu_power_w",
)


@pytest.mark.parametrize("header", [*HEADERS, *NO_HEADERS])
def test_a_header_is_read_by_its_words_and_a_part_of_a_run_is_not_the_run(header):
    assert our_column(header) == HEADERS[header] if header in HEADERS else our_column(header)[0] not in RECOGNISED


def _summary(eai, scratch, name, text, document, *words):
    """The summary of an import of a table, and what the command said."""
    (scratch / name).write_text(text, encoding="utf-8")
    (scratch / "m.yaml").write_text(yaml.safe_dump(document) if isinstance(document, dict) else document, encoding="utf-8")
    code, out, err = eai("import", scratch / name, "--mapping", scratch / "m.yaml", *words, "--out", "mine", "--json")
    assert code == 0, err
    scores = tables.read_scores("mine")
    found = summarize(
        tables.read_windows("mine"), tables.read_energies("mine"), json.loads(out)["baseline"], scores if len(scores) else None
    )
    return found, json.loads(out)


RUNS = "__run_id,quant_type,task,Time,GPU Energy,Accuracy\n" + "".join(
    f"run_{i}_repetition_{r},{q},SA,{1690.25 + 0.37 * r + 3000 * (q == '16-bit')},{500.125 + 0.731 * r + 895.5 * (q == '16-bit')},{a}\n"
    for r in range(3)
    for i, (q, a) in enumerate((("awq-4-bit", 0.9), ("16-bit", 0.91)))
)
RUNS += (
    RUNS.splitlines()[1].replace("repetition_0", "repetition_3")
    + "\n"
    + RUNS.splitlines()[2].replace("repetition_0", "repetition_3")
    + "\n"
)


def test_a_run_table_goes_from_its_guess_to_eor_and_a_copied_repetition_is_no_repeat(eai, scratch):
    """EOR is score / Wh, TWEOR that over seconds; the fourth repetition has every figure of the first and is left out."""
    (scratch / "runs.csv").write_text(RUNS)
    code, out, err = eai("import", scratch / "runs.csv", "--guess")
    assert code == 0 and "block: repetition" in out and "16-bit: '?'" in out and "awq-4-bit: '?'" not in out, err
    code, _, err = eai("import", scratch / "runs.csv", "--mapping", _written(scratch, out), "--out", "mine")
    assert code == 2 and "fill in" in err
    for unknown, answer in (("gpu: '?'", "gpu: a100"), ("model: '?'", "model: m"), ("batch_size: '?'", "batch_size: 1")):
        out = out.replace(unknown, answer)
    out = out.replace("unit: '?'", "unit: J").replace("16-bit: '?'", "16-bit: fp16").replace("n_items: '?'", "n_items: 600")
    seconds = out.replace("duration_s: '?'", "duration_s: s")
    code, _, err = eai("import", scratch / "runs.csv", "--mapping", _written(scratch, seconds), "--out", "mine")
    assert code == 2 and "0.297 W" in err and "units:" in err, "half a kilojoule over 28 minutes is no A100"
    found, said = _summary(eai, scratch, "runs.csv", RUNS, out.replace("duration_s: '?'", "duration_s: ms"))
    assert said["used"] == 6 and said["dropped"][0]["rows"] == [7, 8] and "a copy" in said["dropped"][0]["reason"]
    awq = found[found["quantization"] == "awq"].iloc[0]
    wh, seconds = (500.125 + 0.731) / 3600, (1690.25 + 0.37) / 1000
    assert awq["eor"] == pytest.approx(0.9 / wh) and awq["tweor"] == pytest.approx(0.9 / wh / seconds)


def _written(scratch, text):
    (scratch / "w.yaml").write_text(text)
    return scratch / "w.yaml"


def test_check_names_copied_rows(eai, scratch):
    mapping = (
        "energies: [{column: GPU Energy, unit: J, boundary: gpu, basis: measured}]\ncolumns: {quantization: quant_type, duration_s: Time}\n"
    )
    (scratch / "runs.csv").write_text(RUNS)
    code, out, _ = eai(
        "check", scratch / "runs.csv", "--mapping", _written(scratch, mapping + "units: {duration_s: ms}\nblock: rep\n"), "--json"
    )
    (bad,) = [f for f in json.loads(out)["findings"] if f["verdict"] == "inconsistent"]
    assert code == 1 and bad["check"] == "copied" and bad["rows"] == "runs.csv:2-3,8-9"


REQUESTS = "model,quant,bench,id,prompt,output_tokens,latency_s,energy_j,score\n" + "".join(
    f'm,{q},{b},{b}{i},"ask, {i}",{31 + 7 * i + 3 * (q == "fp16")},{0.5 + 0.125 * i},{(40.5 + 8 * i) * k},{i % 2}\n'
    for q, k in (("fp16", 1), ("nf4", 0.75))
    for b in ("gsm8k", "mmlu")
    for i in range(4)
)


def test_rows_of_requests_are_one_run_where_that_is_said_and_refused_where_lengths_are_counts(eai, scratch):
    document = {"energies": [{"column": "energy_j", "unit": "J", "boundary": "gpu", "basis": "measured"}]}
    names = {"model": "model", "quantization": "quant", "task": "bench", "duration_s": "latency_s", "score": "score"}
    document |= {"columns": names | {"output_tokens": "output_tokens"}, "constants": {"gpu": "t4", "batch_size": 1, "input_tokens": 1}}
    (scratch / "r.csv").write_text(REQUESTS)
    code, _, err = eai("import", scratch / "r.csv", "--mapping", _written(scratch, yaml.safe_dump(document)), "--out", "mine")
    assert code == 2 and "output_tokens is column output_tokens" in err and "per=request" in err and err.count("\n") == 1
    found, said = _summary(eai, scratch, "r.csv", REQUESTS, document, "-p", "per=request")
    assert said["configurations"] == 4 and any("16 rows are requests: added up to 4 run(s)" in n for n in said["notes"])
    full = found[(found["quantization"] == "fp16") & (found["task"] == "gsm8k")].iloc[0]
    joules, seconds = 40.5 * 4 + 8 * 6, 0.5 * 4 + 0.125 * 6
    assert full["output_tokens"] == round((32.5 * 4 + 7 * 6) / 4) and full["n_items"] == 4
    assert full["eor"] == pytest.approx(0.5 / (joules / 3600)) and full["tweor"] == pytest.approx(0.5 / (joules / 3600) / seconds)
    assert found.loc[found["quantization"] == "nf4", "ratio_to_baseline"].tolist() == pytest.approx(
        [0.75 * (34 * 4 + 42) / (31 * 4 + 42)] * 2
    ), "a token"


AVERAGES_A_REQUEST = "model,quant,benchmark,latency_s,energy_net_j,avg_power_w,score\n" + "".join(
    f"gemma-{n}-{q},{q},{b},{2.5 + n * k},{6.25 * (n + k)},{6.5},{0.75}\n"
    for n in (2, 3)
    for q, k in (("Q4_K_M", 1), ("Q8_0", 1.5))
    for b in ("bbh", "gsm8k")
)


def test_averages_a_request_with_the_strategy_in_the_models_name(eai, scratch):
    """The guess takes the strategy out of the name, gross power times time for the energy, and asks for the number of requests."""
    (scratch / "a.csv").write_text(AVERAGES_A_REQUEST)
    code, out, err = eai("import", scratch / "a.csv", "--guess")
    assert code == 0 and "per: request" in out and "net of idle" in out and "(?P<base>" in out, err
    for unknown, answer in (("gpu: '?'", "gpu: cpu"), ("duration_s: '?'", "duration_s: latency_s * 45"), ("n_items: '?'", "n_items: 45")):
        out = out.replace(unknown, answer)
    out = out.replace("batch_size: '?'", "batch_size: 1").replace("boundary: gpu", "boundary: machine")
    found, _ = _summary(eai, scratch, "a.csv", AVERAGES_A_REQUEST, out, "-p", "baseline=gguf_q8_0")
    row = found[(found["model"] == "gemma-2") & (found["quantization"] == "gguf_q4_k_m") & (found["task"] == "bbh")].iloc[0]
    joules, base = 6.5 * 4.5 * 45, 6.5 * 5.5 * 45
    assert row["eor"] == pytest.approx(0.75 / (joules / 3600)) and row["ratio_to_baseline"] == pytest.approx(joules / base)
    code, _, err = eai("import", scratch / "a.csv", "--mapping", _written(scratch, out.replace("per: request", "per: run")), "--out", "x")
    assert code == 2 and "power_mean_w says 6.5 W" in err, "one request's joules over the time of 45"


KEYED = {
    q: {"examples": [{"prompt": "p"}], "summary": {"avg_energy": e, "avg_time": 12.5, "accuracy": 0.5}}
    for q, e in (("fp16", 2000.5), ("nf4", 1500.25))
}


def test_results_named_by_their_keys_are_rows(eai, scratch):
    (scratch / "k.json").write_text(json.dumps({"gsm8k": KEYED}))
    code, out, err = eai("import", scratch / "k.json", "--guess")
    guess = yaml.safe_load(out)
    assert (
        code == 0 and guess["rows"] == "gsm8k.*" and guess["columns"]["quantization"] == "key" and guess["constants"]["task"] == "gsm8k"
    ), err
    (scratch / "k.json").write_text(json.dumps({"gsm8k": KEYED, "mmlu": KEYED}))
    guess = yaml.safe_load(eai("import", scratch / "k.json", "--guess")[1])
    assert guess["rows"] == "*.*"


def test_check_keeps_the_unit_of_a_score_reads_lists_and_knows_graded_tasks(eai, scratch):
    table = "task,quant,score,n,wh\n" + "".join(
        f"mmlu,q{k},{100 * k / 57},57,{9.5 + k}\nrouge,q{k},{17.123456 + k},57,{8.5 + k}\n" for k in range(20, 24)
    )
    (scratch / "s.csv").write_text(table + "mmlu,q9,0.5,200,9.25\n")
    mapping = "columns: {task: task, score: score, n_items: n, energy_wh: wh}\nscore_unit: percent\n"
    out = eai("check", scratch / "s.csv", "--mapping", _written(scratch, mapping), "--json")[1]
    wrong = {f["check"] for f in json.loads(out)["findings"] if f["verdict"] == "inconsistent"}
    assert "physical" not in wrong and "countable" not in wrong, "0.5 of a table in percent, and a mean of graded answers"
    (scratch / "l.json").write_text(json.dumps([{"model": ["a", "b"], "energy_wh": 3.0, "energy_j": 10800.0}]))
    assert eai("check", scratch / "l.json")[0] == 0
