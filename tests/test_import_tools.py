"""Files of known tools, made up in the shape that each of them writes: joules per token by hand, from the numbers written here.

The shapes follow the tools' sources and documentation (llama.cpp's batched-bench, aiperf and genai-perf, guidellm, LoadGen of MLPerf,
CodeCarbon 1 and 3, optimum-benchmark, the table of the LLM-Perf leaderboard); the numbers are nobody's.
"""

import datetime
import json

import pandas as pd
import pytest

from eai import tables
from eai.importers import imports

SAID = {"gpu": "a100", "model": "m", "quantization": "fp16", "batch_size": 1, "input_tokens": 64, "output_tokens": 128}
BEGAN_S = 1767261600.0
WATTS = 250.0


def read(path, text, power=False, **said):
    """The import of one file; a power log beside it reads WATTS from one card at all times."""
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    log = path.with_name("power.csv") if power else None
    asked = imports.Asked((path,), power=log, constants=said)
    return imports.read(asked, lambda _: lambda a, b: [{"device_id": "gpu0", "energy_j": WATTS * (b - a)}])


def per_token(found):
    """Joules an output token of the first boundary of every window."""
    energies = found.energies[found.energies["boundary"] == found.energies["boundary"].iloc[0]]
    joules = energies.groupby("attempt", sort=False)["energy_j"].sum()
    return (joules / found.windows.set_index("attempt")["tokens_out"]).dropna().tolist()


def but(*names):
    return {k: v for k, v in SAID.items() if k not in names}


def stamp(after_s):
    return datetime.datetime.fromtimestamp(BEGAN_S + after_s).isoformat(timespec="microseconds")


def test_llama_batched_bench(tmp_path):
    """Lines of llama-batched-bench --output-format jsonl: 8 x 128 tokens in 4.0 s at a stated 200 W are 800 J."""
    common = {"n_kv_max": 16384, "n_batch": 2048, "n_ubatch": 512, "flash_attn": 1, "is_pp_shared": 0, "n_gpu_layers": 99, "n_threads": 8}
    rows = [
        common | {"pp": 512, "tg": 128, "pl": n, "n_kv": n * 640, "t_pp": 0.1 * n, "speed_pp": 5120.0, "t_tg": t - 0.1 * n,
                  "speed_tg": n * 128 / (t - 0.1 * n), "t": t, "speed": n * 640 / t}
        for n, t in ((1, 1.6), (8, 4.0))
    ]  # fmt: skip
    found = read(
        tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)), **but("batch_size", "input_tokens", "output_tokens"), power_mean_w=200
    )
    assert per_token(found) == pytest.approx([200 * 1.6 / 128, 200 * 4.0 / 1024])
    assert found.windows["batch_size"].tolist() == [1, 8] and found.windows["input_tokens"].tolist() == [512, 512]
    options = json.loads(found.windows["options"].iloc[0])
    assert options["engine"] == "llama.cpp" and options["flash_attn"] == 1 and found.windows["ttft_s"].tolist() == pytest.approx([0.1, 0.8])


@pytest.mark.parametrize("version", ["aiperf", "genai-perf"])
def test_aiperf_and_genai_perf(version, tmp_path):
    """200 requests of 96.5 tokens on average in 15 s, 250 W: 3750 J over 19,300 tokens."""
    body = {
        "request_throughput": {"unit": "requests/sec", "avg": 200 / 15},
        "request_latency": {"unit": "ms", "avg": 6550.3, "p50": 5799.9, "p99": 9381.6},
        "time_to_first_token": {"unit": "ms", "avg": 1588.8, "p50": 787.5},
        "inter_token_latency": {"unit": "ms", "avg": 51.7, "p50": 50.0},
        "output_sequence_length": {"unit": "tokens", "avg": 96.5},
        "input_sequence_length": {"unit": "tokens", "avg": 549.7},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 19300 / 15},
        "request_count": {"unit": "requests", "avg": 200.0},
    }
    if version == "aiperf":
        body |= {"benchmark_duration": {"unit": "sec", "avg": 15.0}, "start_time": stamp(5), "end_time": stamp(20), "was_cancelled": False}
        body["input_config"] = {"endpoint": {"model_names": ["openai/gpt-oss-20b"], "type": "chat"}, "loadgen": {"concurrency": 100}}
        found = read(tmp_path / "profile_export_aiperf.json", body, True, gpu="a100", quantization="fp16")
    else:
        body["input_config"] = {"model_names": ["openai/gpt-oss-20b"], "perf_analyzer": {"stimulus": {"concurrency": 100}}}
        found = read(tmp_path / "profile_export_genai_perf.json", body, True, gpu="a100", quantization="fp16", started_at=BEGAN_S)
    window = found.windows.iloc[0]
    assert per_token(found) == pytest.approx([WATTS * 15 / 19300]) and window["batch_size"] == 100 and window["requests"] == 200
    assert (window["input_tokens"], window["output_tokens"]) == (550, 96) and "gpt-oss-20b" in window["model"]
    assert window["ttft_s"] == pytest.approx(0.7875) and window["itl_s"] == pytest.approx(0.05)


def test_guidellm_of_the_first_versions(tmp_path):
    """Strategy under `args`, totals beside the metrics: 20 requests of 50 tokens in 40 s."""
    one = {
        "args": {"strategy": {"type_": "concurrent", "streams": 4}, "backend": {"model": "Qwen/Qwen2-7B"}},
        "start_time": BEGAN_S + 70.0, "end_time": BEGAN_S + 110.0,
        "request_totals": {"successful": 20, "errored": 1, "total": 21},
        "metrics": {
            "output_token_count": {"successful": {"mean": 50.0, "median": 50.0}}, "prompt_token_count": {"successful": {"mean": 64.2}},
            "time_to_first_token_ms": {"successful": {"median": 30.0}}, "inter_token_latency_ms": {"successful": {"median": 9.0}},
        },
    }  # fmt: skip
    found = read(tmp_path / "g.json", {"benchmarks": [one]}, True, gpu="a100", quantization="fp16")
    assert per_token(found) == pytest.approx([WATTS * 40 / 1000]) and found.windows["batch_size"].tolist() == [4]


def test_mlperf_s_detail_log(tmp_path):
    """LoadGen's lines: power_begin to power_end is 600 s; 8,165 tokens per second over 598 s of queries."""
    events = {
        "loadgen_version": "4.1", "effective_scenario": "Offline", "result_validity": "VALID",
        "power_begin": "01-01-2026 10:00:00.000", "power_end": "01-01-2026 10:10:00.000",
        "generated_query_count": 1, "result_query_count": 24576, "effective_min_duration_ms": 600000, "generated_query_duration": 598000,
        "result_tokens_per_second": 8165.0,
    }  # fmt: skip
    lines = [f":::MLLOG {json.dumps({'key': k, 'value': v, 'time_ms': 1.5, 'namespace': 'mlperf::logging'})}" for k, v in events.items()]
    found = read(tmp_path / "mlperf_log_detail.txt", "\n".join(lines) + "\n", True, **SAID)
    assert found.windows["duration_s"].tolist() == [600.0] and found.windows["requests"].tolist() == [24576]
    assert per_token(found) == pytest.approx([WATTS * 600 / (8165 * 598)])


CC1 = """timestamp,experiment_id,project_name,duration,emissions,energy_consumed,country_name,country_iso_code,region,on_cloud
2021-05-05T04:04:40,e,p,3600.5,0.052,0.31,France,FRA,,N
"""
CC3 = (
    "timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,"
    "energy_consumed,water_consumed,country_name,country_iso_code,region,cloud_provider,cloud_region,os,python_version,codecarbon_version,cpu_count,"
    "cpu_model,gpu_count,gpu_model,longitude,latitude,ram_total_size,tracking_mode,cpu_utilization_percent,gpu_utilization_percent,"
    "ram_utilization_percent,ram_used_gb,on_cloud,pue,wue\n"
    "2026-05-05T04:04:40,p,r,e,1800.0,0.02,1e-05,42.5,220.1,20.0,0.021,0.11,0.01,0.141,0.0,France,FRA,,,,Linux,3.12.0,3.0.7,16,AMD EPYC,1,"
    "1 x NVIDIA A100-SXM4-80GB,2.3,48.9,128.0,machine,4.2,91.0,20.0,25.0,N,1.0,0.0\n"
)


def test_codecarbon_of_version_one_is_an_estimate_of_the_machine(tmp_path):
    found = read(tmp_path / "emissions.csv", CC1, **SAID, tokens_out=100_000)
    (energy,) = found.energies.to_dict("records")
    assert (energy["boundary"], energy["basis"]) == ("machine", "estimated") and per_token(found) == pytest.approx([0.31 * 3.6e6 / 1e5])


def test_codecarbon_of_version_three_has_its_parts(tmp_path):
    found = read(tmp_path / "emissions.csv", CC3, **but("gpu"), tokens_out=100_000)
    parts = found.energies.set_index("boundary")
    assert parts["energy_j"].to_dict() == pytest.approx({"gpu": 0.11 * 3.6e6, "cpu_package": 0.021 * 3.6e6, "dram": 0.01 * 3.6e6})
    assert parts["basis"].to_dict() == {"gpu": "measured", "cpu_package": "estimated", "dram": "estimated"}
    assert "a100" in found.windows["gpu"].iloc[0]


def optimum(quantization=None):
    """optimum-benchmark's report as it is written: nested, kWh of one decode pass, no throughput in some versions."""
    return {
        "config": {
            "name": "cuda",
            "backend": {"name": "pytorch", "version": "2.5.1", "model": "m", "torch_dtype": "float16", "quantization_scheme": quantization},
            "scenario": {"input_shapes": {"batch_size": 4, "sequence_length": 256}, "generate_kwargs": {"max_new_tokens": 64}},
            "environment": {"gpu": ["NVIDIA A100-SXM4-80GB"], "gpu_count": 1},
        },
        "report": {
            "prefill": {"latency": {"unit": "s", "mean": 0.043}, "energy": {"unit": "kWh", "cpu": 1e-6, "ram": 1e-7, "gpu": 3e-6}},
            "decode": {
                "latency": {"unit": "s", "mean": 1.6}, "throughput": {"unit": "tokens/s", "value": 4 * 63 / 1.6},
                "energy": {"unit": "kWh", "cpu": 2e-5, "ram": 4e-6, "gpu": 1e-4, "total": 1.24e-4},
            },
        },
    }  # fmt: skip


def test_optimum_benchmark_as_written(tmp_path):
    """1e-4 kWh are 360 J over 4 x 63 tokens of the decode pass."""
    found = read(tmp_path / "benchmark_report.json", optimum())
    gpu = found.energies[found.energies["boundary"] == "gpu"]["energy_j"].iloc[0]
    assert gpu / found.windows["tokens_out"].iloc[0] == pytest.approx(360 / 252) and found.windows["quantization"].tolist() == ["fp16"]
    assert found.windows["gpu"].iloc[0].startswith("a100") and found.windows["ttft_s"].tolist() == [0.043]


def test_what_is_said_makes_up_for_a_column_that_is_absent(tmp_path):
    """Without throughput and latency, tokens and time said: 0.1199 kWh over 999,000 tokens are 0.432 J per token."""
    body = optimum()
    body["report"] = {"decode": {"energy": {"cpu": 0.015, "ram": 0.0066, "gpu": 0.1199}}}
    found = read(tmp_path / "r.json", body, tokens_out=999_000, duration_s=1573.75)
    gpu = found.energies[found.energies["boundary"] == "gpu"]["energy_j"].iloc[0]
    assert gpu / 999_000 == pytest.approx(0.432, abs=5e-4)


def test_llm_perf_s_table(tmp_path, eai, scratch):
    """The leaderboard's CSV is the report with dots; a quantized row and its 16 bits are two configurations."""
    import pandas as pd

    rows = pd.json_normalize([optimum(), optimum("bnb.4bit")])
    rows["config.environment.gpu"] = "['NVIDIA A100-SXM4-80GB']"
    rows.loc[1, "report.decode.energy.gpu"] = 5e-5
    rows.to_csv(scratch / "perf-df.csv", index=False)
    code, _, err = eai("import", scratch / "perf-df.csv", "--out", "mine", "--json")
    assert code == 0, err
    energies = tables.read_energies("mine")
    assert energies[energies["boundary"] == "gpu"]["energy_j"].tolist() == pytest.approx([360.0, 180.0])
    assert tables.read_windows("mine")["configuration_id"].nunique() == 2


def test_mlperf_s_analyser_is_read_at_the_wall(eai, scratch):
    """PTDaemon's line, 300 W between power_begin and power_end, 30 s apart: 9,000 J of the machine, not of the cards."""
    stamps = pd.date_range("2026-01-22 15:05:00.313", periods=60, freq="s")
    line = (
        "Time,{:%m-%d-%Y %H:%M:%S}.313,Watts,{:.6f},Volts,227.370000,Amps,0.204340,PF,0.494400,Mark,2026-01-22_15-05-02_loadgen_testing\n"
    )
    (scratch / "spl.txt").write_text("".join(line.format(t, 300 if 10 <= i < 50 else 200) for i, t in enumerate(stamps)))
    events = {"power_begin": "01-22-2026 15:05:15.313", "power_end": "01-22-2026 15:05:45.313", "generated_query_count": 24576}
    lines = [f":::MLLOG {json.dumps({'key': k, 'value': v, 'namespace': 'mlperf::logging'})}\n" for k, v in events.items()]
    (scratch / "mlperf_log_detail.txt").write_text("".join(lines))
    said = {
        "gpu": "8 x H100",
        "model": "llama-2-70b",
        "quantization": "fp8",
        "batch_size": 1,
        "input_tokens": 0,
        "output_tokens": 0,
        "task": "o",
    }
    words = [w for k, v in said.items() for w in ("-p", f"{k}={v}")]
    code, out, err = eai("import", scratch / "mlperf_log_detail.txt", "--power", scratch / "spl.txt", *words, "--out", "mine", "--json")
    assert code == 0 and json.loads(out)["energies"][0]["boundary"] == "machine", err
    energies = tables.read_energies("mine")
    assert energies["energy_j"].tolist() == pytest.approx([9000.0]) and energies["boundary"].tolist() == ["machine"]
