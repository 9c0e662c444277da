"""The forecast of a sweep against sums done by hand, and the two examples that ship."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import paths, runs, settings
from eai.cluster import forecast
from eai.errors import UserError
from eai.plan import Job, plan
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
    found = forecast.job_s(sweep, job)
    assert found.value == pytest.approx(5 * (10 + 30) + 5 * load_s + 5 * 11, rel=1e-3)
    assert found.low == pytest.approx(5 * 10 + 5 * load_s / 3 + 5 * 11, rel=1e-3)
    assert found.high == pytest.approx(5 * 70 + 5 * load_s * 3 + 5 * 11, rel=1e-3)


def test_energy_is_the_predicted_power_over_windows_and_warm_ups():
    from eai.predict import predict

    sweep, jobs = planned()
    power = predict("rtx4090d", "Qwen/Qwen2-7B", "fp16", 1, 512, 256).power_w
    energy, windows, refusal = forecast.energy_j(sweep, jobs)
    assert (windows, refusal) == (5.0, "")
    assert energy.value == pytest.approx(power.value * 40 * 5)
    assert (energy.low, energy.high) == (pytest.approx(power.low * 10 * 5), pytest.approx(power.high * 70 * 5))


def test_cost_and_carbon_are_the_sites():
    """1 kWh exactly, PUE at its stated 1.0: the default price and intensity."""
    found = forecast.bill(Quantity(3.6e6, 3.6e6, 3.6e6, "J"), forecast.Site("us"))
    assert found["cost_usd"]["value"] == pytest.approx(0.12) and found["carbon_kg"]["value"] == pytest.approx(0.39)
    assert found["cost_usd"]["low"] < 0.12 < found["cost_usd"]["high"]
    given_price = forecast.bill(Quantity(3.6e6, 3.6e6, 3.6e6, "J"), forecast.Site("us", pue=1.0, price=0.5))["cost_usd"]
    assert (given_price["low"], given_price["high"]) == (0.5, 0.5)


def test_what_cannot_be_predicted_is_said_and_not_made_up():
    sweep, jobs = planned(models=["no-one/knows-this"])
    found = forecast.forecast(sweep, jobs)
    assert found["energy_kwh"] is None and found["cost_usd"] is None and "no-one/knows-this" in found["not_predicted"]
    assert found["device_hours"]["value"] > 0 and found["basis"] == "predicted"
    assert any("not predicted" in line for line in forecast.lines(found))
    sweep, jobs = planned(quantizations=["fp16", "nf4"], batch_sizes=[1, 8])
    found = forecast.forecast(sweep, jobs)
    assert found["predicted_share"] == 0.75 and "nf4 at batch 8" in found["not_predicted"]


def test_a_processor_costs_hours_and_no_predicted_energy():
    sweep, jobs = planned(gpus=["cpu"], meter="estimate", models=[settings.EMBEDDED_MODEL])
    found = forecast.forecast(sweep, jobs)
    assert found["energy_kwh"] is None and list(found["hours"]) == ["cpu"]
    lasts, idle_s = forecast.window_s(sweep, "cpu")
    assert (lasts.value, lasts.low, lasts.high, idle_s) == (2.5, 2.0, 3.0, 0.0)


def test_tasks_last_as_long_as_their_items_and_are_not_in_the_hours():
    sweep, jobs = planned(tasks=["generate", "arc_challenge", "gsm8k"])
    found, plain = forecast.forecast(sweep, jobs), forecast.forecast(*planned())
    assert found["hours_share"] == pytest.approx(1 / 3, abs=1e-3) and found["windows"] == 15
    assert found["device_hours"]["value"] == pytest.approx(plain["device_hours"]["value"])
    assert any("67% of the windows, which are tasks" in line for line in forecast.lines(found))


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
    total = forecast.times(forecast.add(parts, "s"), factor, "h")
    assert total.value == pytest.approx(sum(values) * factor)
    assert (total.low, total.high) == (pytest.approx(total.value / 2), pytest.approx(total.value * 3))


@pytest.mark.parametrize(("name", "jobs", "windows_a_job"), [("study", 36, 5 * 5 * 1 * 5), ("advisor", 15, 4 * 7 * 10)])
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
