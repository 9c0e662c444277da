"""What a dry run says cannot run: figures from data sheets and shapes, by sums done here."""

from pathlib import Path

import pytest

from eai import runs, settings
from eai.cluster import forecast
from eai.jobs import plan

NOWHERE = Path("nowhere")
BASE = {"gpus": ["rtx4090d"], "models": ["Qwen/Qwen2-7B"], "quantizations": ["fp16"], "input_tokens": [512], "output_tokens": [256]}


def found(**changes):
    sweep = settings.sweep(**BASE | {"batch_sizes": [1], "blocks": 2} | changes)
    jobs = plan(sweep, NOWHERE, sweep.gpus)
    return sweep, jobs, forecast.obstacles(sweep, jobs, elsewhere=True)


def test_what_can_run_is_no_obstacle():
    _, jobs, none = found()
    assert none.rows == () and forecast.obstacle_lines(none, jobs) == []


def test_weights_and_cache_beyond_the_card():
    """Qwen2-7B: 7,615,616,512 parameters in 16 bit and 28 layers x 4 heads x 128 x 2 x 2 bytes a position, on a card of 24 GiB."""
    batch = 256
    needed = 7_615_616_512 * 2 + 2 * 28 * 4 * 128 * 2 * 768 * batch
    assert needed > 24 * 2**30 > 7_615_616_512 * 2
    _, jobs, cannot = found(batch_sizes=[1, batch])
    (row,) = cannot.rows
    assert (row.status, row.batch_size, cannot.windows) == ("oom", batch, 2) and f"at least {needed / 1e9:.1f} GB" in row.reason
    first, line = forecast.obstacle_lines(cannot, jobs)
    assert first.startswith("cannot run: 1 configuration (1 oom), 2 of 4 windows") and f"batch {batch}" in line


def test_more_tokens_than_the_model_reads():
    """Qwen2-7B reads 131,072 positions."""
    _, _, cannot = found(input_tokens=[512, 131_072], batch_sizes=[1])
    assert [(r.status, r.input_tokens) for r in cannot.rows] == [("failed", 131_072)] and "131328 tokens exceed" in cannot.rows[0].reason


@pytest.mark.parametrize(
    ("gpu", "quantization", "words"),
    [
        ("v100_pcie_32gb", "bf16", "needs compute capability 8, V100 PCIe 32 GB has 7"),
        ("a100_pcie_80gb", "fp8", "needs compute capability 8.9"),
        ("cpu", "tf32", "needs a CUDA device"),
        ("simulated_v100_pcie_32gb", "bf16", "needs compute capability 8, V100 PCIe 32 GB has 7"),
    ],
)
def test_strategies_that_the_card_cannot_do(gpu, quantization, words):
    _, _, cannot = found(gpus=[gpu], models=["Qwen/Qwen2-1.5B"], quantizations=["fp32", quantization], weights="random")
    (row,) = cannot.rows
    assert (row.status, row.quantization) == ("unsupported", quantization) and words in row.reason


def test_weights_that_rule_a_strategy_out():
    _, _, cannot = found(quantizations=["fp16", "int8_default", "gptq"], weights="random")
    assert [r.quantization for r in cannot.rows] == ["int8_default", "gptq"]


def test_what_nobody_can_judge_is_not_judged():
    assert found(models=["no-one/knows-this"], batch_sizes=[4096])[2].rows == ()
    assert found(gpus=["some_new_card"], batch_sizes=[4096])[2].rows == ()


def test_what_cannot_run_costs_nothing_and_shares_are_of_the_rest():
    sweep, jobs, cannot = found(batch_sizes=[1, 256])
    blocked = forecast.forecast(sweep, jobs, blocked=cannot.cells)
    alone = forecast.forecast(*found()[:2])
    assert blocked["energy_kwh"]["value"] == pytest.approx(alone["energy_kwh"]["value"])
    assert blocked["device_hours"]["value"] == pytest.approx(alone["device_hours"]["value"])
    assert (blocked["windows"], blocked["hours_share"], blocked["predicted_share"]) == (4, 1.0, 1.0)
    assert any("both for all windows that can run" in line for line in forecast.lines(blocked))
    sweep, jobs, _ = found(batch_sizes=[1, 2])
    first = forecast.forecast(sweep, jobs, blocked={(jobs[0].gpu, jobs[0].model): {1}})
    assert first["energy_kwh"]["value"] == pytest.approx(alone["energy_kwh"]["value"]), "whatever it is that stops a cell"


def test_a_processors_windows_are_in_the_share():
    """One card of two devices is predicted: half of the windows."""
    sweep, jobs, cannot = found(gpus=["rtx4090d", "cpu"], meter="estimate")
    told = forecast.forecast(sweep, jobs, blocked=cannot.cells)
    assert told["predicted_share"] == (0.5 if not cannot.rows else 1.0)
    line = next(line for line in forecast.lines(told) if line.startswith("cost"))
    assert ("50% of the windows" in line) == (not cannot.rows)


def test_a_dry_run_lists_them_and_refuses_nothing(scratch):
    sweep = settings.sweep(
        **BASE | {"gpus": ["v100_pcie_16gb"], "quantizations": ["fp16", "bf16"], "weights": "random", "batch_sizes": [1]}
    )
    told = runs.describe(sweep)
    assert told["cannot_run"]["configurations"] == 1 and told["cannot_run"]["rows"][0]["quantization"] == "bf16"
    assert any(line.startswith("cannot run: 1 configuration (1 unsupported)") for line in told["lines"])
