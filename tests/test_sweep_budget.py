"""`eai run --hours`: what fits, what is kept, and that the power that is promised is the power that a simulation finds."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from eai import settings
from eai.cli import main
from eai.cluster import forecast
from eai.errors import UserError
from eai.jobs import plan

NOWHERE = Path("/nowhere/at/all")
BASE = {
    "gpus": ["rtx4090d", "l40s"],
    "models": ["Qwen/Qwen2-1.5B", "Qwen/Qwen2.5-7B-Instruct"],
    "quantizations": ["nf4", "fp16", "int8_pure"],
    "batch_sizes": [1, 4, 16],
    "tasks": ["gsm8k", "generate"],
    "blocks": 5,
}


def within(hours, **changed):
    sweep = settings.sweep(**BASE | changed)
    return sweep, *forecast.within(sweep, plan(sweep, NOWHERE, sweep.gpus), hours, elsewhere=True)


def hours_of(sweep) -> float:
    """The forecast of the whole part, by the forecast's own way."""
    return forecast.forecast(sweep, plan(sweep, NOWHERE, sweep.gpus))["device_hours"]["value"]


@pytest.mark.parametrize("hours", [1, 4, 20])
def test_what_is_taken_fits_and_keeps_the_baseline(hours):
    asked, kept, lines = within(hours)
    assert hours_of(kept) <= hours * 1.05, "the forecast of the part, made as for any sweep"
    assert "fp16" in kept.quantizations and kept.blocks >= 2 and set(kept.gpus) <= set(asked.gpus)
    assert f"in {hours:g} h" in lines[0] and "inconclusive" in lines[1]


def test_more_hours_show_no_less():
    shown = [int(within(hours)[2][1].split()[0]) for hours in (0.5, 2, 8, 40)]
    assert shown == sorted(shown) and shown[-1] > shown[0]


def test_a_sweep_that_fits_is_left_alone():
    asked, kept, lines = within(10_000)
    assert kept == asked and "the whole sweep" in lines[0]


def test_the_promised_power_is_that_of_simulated_pairs():
    """8 blocks, a family of 6: the share of simulated paired t tests that show 5 % at 0.05 / 6, spread 1.5 %, within its binomial error."""
    logs = np.random.default_rng(0).normal(math.log(0.95), 0.015, (4000, 8))
    p = 2 * stats.t.sf(np.abs(logs.mean(1) / (logs.std(1, ddof=1) / math.sqrt(8))), 7)
    assert forecast._power(0.015, 8, 6) == pytest.approx(np.mean(p <= 0.05 / 6), abs=0.02)
    least = forecast.detectable(0.015, 8, 6)
    logs += math.log(1 - least) - math.log(0.95)
    p = 2 * stats.t.sf(np.abs(logs.mean(1) / (logs.std(1, ddof=1) / math.sqrt(8))), 7)
    assert np.mean(p <= 0.05 / 6) == pytest.approx(0.8, abs=0.025)


def test_comparisons_that_cannot_run_are_not_counted():
    """fp32 of 7B does not fit on 24 GB: no comparison with it, and no second of device time."""
    _, kept, lines = within(
        10_000, gpus=["rtx4090d"], models=["Qwen/Qwen2.5-7B-Instruct"], quantizations=["fp16", "fp32"], tasks=["generate"]
    )
    assert lines[1].startswith("0 comparisons")
    _, kept, _ = within(2, quantizations=["fp16", "fp32", "nf4"], baseline="fp16", tasks=["generate"])
    assert {"fp16", "nf4"} <= set(kept.quantizations) or kept.quantizations[0] == "fp16"


@pytest.mark.parametrize(("hours", "words"), [(0, "above 0"), (float("nan"), "above 0"), (1e-4, "fits into")])
def test_hours_that_are_none_are_refused(hours, words):
    with pytest.raises(UserError, match=words):
        within(hours)


def test_the_command_says_what_can_be_shown(tmp_path, capsys, monkeypatch):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "experiment: small\ngpus: [simulated_l40s]\nmodels: [Qwen/Qwen2-1.5B]\nweights: random\nquantizations: [fp16, nf4]\nblocks: 3\n"
    )
    monkeypatch.setattr("sys.argv", ["eai", "run", str(file), "--hours", "0.4", "--dry-run", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert not ended.value.code and "in 0.4 h of device time" in out and "is shown with probability" in out
