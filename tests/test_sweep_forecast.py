"""The forecast of a sweep against sums done by hand, and the two examples that ship."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import paths, runs, settings
from eai.cluster import forecast
from eai.errors import UserError
from eai.jobs import Job, plan
from eai.quantity import Quantity

NOWHERE = Path("nowhere")
BASE = {"gpus": ["rtx4090d"], "models": ["Qwen/Qwen2-7B"], "quantizations": ["fp16"], "batch_sizes": [1], "blocks": 5}


def planned(**changes):
    sweep = settings.sweep(**BASE | {"input_tokens": [512], "output_tokens": [256]} | changes)
    return sweep, plan(sweep, NOWHERE, sweep.gpus)


def test_hours_are_windows_warm_ups_loads_and_idles():
    """5 windows of 10 s with 0 to 60 s of warm-up, 5 loads of 15.2 GB at 1 GB/s and 10 s, idle for 5 s twice a load and once before."""
    sweep, (job,) = planned()
    weights_gb = 7_615_616_512 * 2 / 1e9
    load_s = 10 + weights_gb
    found = forecast.job_s(sweep, job)[2]
    assert found.value == pytest.approx(5 * (10 + 30) + 5 * load_s + 5 * 11, rel=1e-3)
    assert found.low == pytest.approx(5 * 10 + 5 * load_s / 3 + 5 * 11, rel=1e-3)
    assert found.high == pytest.approx(5 * 70 + 5 * load_s * 3 + 5 * 11, rel=1e-3)


def test_energy_is_the_predicted_power_over_windows_and_warm_ups():
    import pandas as pd

    from eai.predict import predict

    sweep, jobs = planned()
    asked = {
        "gpu": "rtx4090d",
        "model": "Qwen/Qwen2-7B",
        "quantization": "fp16",
        "batch_size": 1,
        "input_tokens": 512,
        "output_tokens": 256,
    }
    power = predict(pd.DataFrame([asked])).iloc[0]
    energy, windows, refusal = forecast.energy_j(sweep, jobs)
    assert (windows, refusal) == (5.0, "")
    assert energy.value == pytest.approx(power["power_w"] * 40 * 5)
    assert (energy.low, energy.high) == (pytest.approx(power["power_w_low"] * 10 * 5), pytest.approx(power["power_w_high"] * 70 * 5))


def test_cost_and_carbon_are_the_sites():
    """1 kWh exactly, PUE at its stated 1.0: the default price and intensity."""
    found = forecast.bill(Quantity(3.6e6, 3.6e6, 3.6e6, "J"), forecast.Site("us"))
    assert found["cost_usd"]["value"] == pytest.approx(0.12) and found["carbon_kg"]["value"] == pytest.approx(0.39)
    assert found["cost_usd"]["low"] < 0.12 < found["cost_usd"]["high"]
    given_price = forecast.bill(Quantity(3.6e6, 3.6e6, 3.6e6, "J"), forecast.Site("us", 1.0, 0.5))["cost_usd"]
    assert (given_price["value"], given_price["low"]) == (0.5, None)


def test_what_cannot_be_predicted_is_said_and_not_made_up():
    sweep, jobs = planned(models=["no-one/knows-this"])
    found = forecast.forecast(sweep, jobs)
    assert found["energy_kwh"] is None and found["cost_usd"] is None and "no-one/knows-this" in found["not_predicted"]
    assert found["device_hours"]["value"] > 0 and found["basis"] == "predicted"
    assert any("not predicted" in line for line in forecast.lines(found))


def test_a_processor_costs_hours_and_no_predicted_energy():
    sweep, jobs = planned(gpus=["cpu"], meter="estimate", models=[settings.EMBEDDED_MODEL])
    found = forecast.forecast(sweep, jobs)
    assert found["energy_kwh"] is None and list(found["hours"]) == ["cpu"]
    lasts, idle_s = forecast.window_s(sweep, "cpu")
    assert (lasts.value, lasts.low, lasts.high, idle_s) == (2.5, 2.0, 3.0, 0.0)


def test_tasks_take_whole_passes_over_their_items():
    """GSM8K by hand: 1,319 items of 5 x 170 + 60 tokens read at half the peak, 130 tokens answered a step at a time, batch 8."""
    from eai import catalog, footprint

    sweep, (job,) = planned(tasks=["gsm8k"], batch_sizes=[8])
    gpu, model = catalog.gpu("rtx4090d"), catalog.model("Qwen/Qwen2-7B")
    read = 1319 * footprint.prefill_flops(model, 910) / (0.5 * gpu.fp16_tflops * 1e12) + 1319 / 8 * 0.02
    step = footprint.footprint(model, "fp16", 8, 910, 130, gpu).step_s
    one = read + 1319 / 8 * 130 * (3 * step + 0.02)
    q = forecast.pass_s(sweep.configurations(job.gpu, job.model)[0])
    assert q.value == pytest.approx(one) and (q.low, q.high) == (pytest.approx(one / 3), pytest.approx(one * 3))
    found = forecast.forecast(*planned(tasks=["gsm8k"], batch_sizes=[8]))
    assert found["hours_share"] == 1.0 and found["device_hours"]["value"] * 3600 > 5 * one
    assert not any("without" in line for line in forecast.lines(found))


def test_the_studys_own_sweep_takes_hundreds_of_hours():
    """36 jobs x 54 tasks-times-strategies x 5 blocks of whole passes over MMLU, HellaSwag and others: no six hours."""
    sweep = settings.read_sweep(paths.ROOT / "workflow" / "examples" / "study.yaml")
    found = forecast.forecast(sweep, plan(sweep, NOWHERE, sweep.gpus))
    assert 200 < found["device_hours"]["value"] < 20_000 and found["hours_share"] > 0.9


def test_a_file_of_items_is_not_forecast(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"question": "1 + 1 =", "answer": "2"}\n')
    assert forecast.task_size(str(tmp_path / "mine.jsonl")) is None and forecast.task_size("nothing-known") is None


def test_what_is_on_disk_costs_nothing():
    sweep, (job,) = planned()
    done = Job(job.gpu, job.model, job.windows, job.loads, job.windows, NOWHERE)
    assert forecast.lines(forecast.forecast(sweep, [done])) == ["nothing is left to measure"]
    half = forecast.forecast(sweep, [Job(job.gpu, job.model, 10, 10, 5, NOWHERE)])
    whole = forecast.forecast(sweep, [Job(job.gpu, job.model, 10, 10, 0, NOWHERE)])
    assert half["windows"] == 5 and half["energy_kwh"]["value"] == pytest.approx(whole["energy_kwh"]["value"] / 2)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.floats(0.1, 10))
def test_ends_add_up_and_scale(values, factor):
    parts = [Quantity(v, v / 2, v * 3, "s") for v in values]
    total = forecast.add(parts, "s") * factor
    assert total.value == pytest.approx(sum(values) * factor)
    assert (total.low, total.high) == (pytest.approx(total.value / 2), pytest.approx(total.value * 3))


@pytest.mark.parametrize(("name", "jobs", "windows_a_job"), [("study", 36, 6 * 9 * 1 * 5), ("advisor", 15, 4 * 7 * 10)])
def test_the_examples_are_the_two_full_designs(name, jobs, windows_a_job):
    sweep = settings.read_sweep(paths.ROOT / "workflow" / "examples" / f"{name}.yaml")
    found = plan(sweep, NOWHERE, sweep.gpus)
    assert len(found) == jobs and {job.windows for job in found} == {windows_a_job}
    from eai import catalog

    assert all(catalog.gpu(gpu).slug == gpu for gpu in sweep.gpus)
    assert all(catalog.model(model).hf_id == model for model in sweep.models)


def test_cards_that_are_elsewhere_are_planned_and_a_run_still_refuses_them(scratch):
    shapes = {"models": ["Qwen/Qwen2.5-7B-Instruct"], "weights": "random", "quantizations": ["fp16"]}
    sweep = settings.sweep(gpus=["h100_sxm"], **shapes)
    found = runs.describe(sweep)
    assert [(j["gpu"], j["windows"]) for j in found["jobs"]] == [("h100_sxm", 6)]
    assert "h100_sxm" in found["not_here"] and found["lines"][-1].startswith("to plan only: ")
    with pytest.raises(UserError, match="h100_sxm"):
        runs.run(sweep)
    with pytest.raises(UserError, match="h1000"):
        runs.describe(settings.sweep(gpus=["h1000"], **shapes))
