"""What is doubtful about a recorded log: each doubt shows in the status, the warnings or the interval, on logs whose truth is known."""

import math

import known_power
import meter_accuracy
import numpy as np
import pytest

from eai.errors import UserError
from eai.power.logs import LoggedGpu, PowerLog, read_log
from eai.power.simulated import SensorSpec
from eai.power.trace import _joint_scatter_j, board_of, phase_energies, summarize_trace

A100, H100 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"


def log_of(*series, name="", column="power.draw [W]", **more):
    return PowerLog(
        tuple(LoggedGpu(i, np.asarray(t, float), np.asarray(p, float), name=name, **more) for i, (t, p) in enumerate(series)),
        column,
        "seconds",
    )


def flat(duration_s=60.0, power_w=300.0, period_s=0.1, noise_w=1.0, seed=0):
    t = np.arange(0, duration_s + period_s / 2, period_s)
    return t, power_w + np.random.default_rng(seed).normal(0, noise_w, len(t))


# Aliasing


def test_the_card_of_the_log_and_the_step_tell_that_it_aliases():
    log = log_of(flat(5.0), name=A100)
    aliased = summarize_trace(log, step_s=0.101)
    assert aliased["status"] == "aliased" and any("101 ms beat with the sensor" in w for w in aliased["warnings"])
    assert aliased["gpus"][0]["terms_j"]["aliasing"] == pytest.approx(0.25 * 1500, rel=0.01)
    clear = summarize_trace(log, step_s=0.037)
    assert clear["status"] == "ok" and clear["gpus"][0]["terms_j"]["aliasing"] < 0.02 * 1500
    unnamed = log_of(flat(5.0))
    assert summarize_trace(unnamed, gpu="A100 SXM4 80 GB", step_s=0.101)["status"] == "aliased"
    assert any("name the card with --gpu" in w for w in summarize_trace(unnamed, step_s=0.102)["warnings"])
    with pytest.raises(UserError, match="A 100 000"):
        summarize_trace(unnamed, gpu="A 100 000")


def test_the_alias_check_flags_what_aliases_and_little_else():
    found = meter_accuracy.aliasing(400)  # 0.95 and 0.05 on many: benchmarks/meter_accuracy.py
    assert found["flagged_of_aliased"] >= 0.92 and found["flagged_of_clear"] <= 0.08 and found["covered"] >= 0.93, found


def test_a_beat_shows_in_the_readings_and_its_absence_clears_the_window():
    """Steps of 102 ms beat once in 5 s with updates of 100 ms: readings that swing by 15 % are off, flat ones are not."""
    t, p = flat(5.0)
    assert summarize_trace(log_of((t, p), name=A100), step_s=0.102)["status"] == "ok"
    swinging = p * (1 + 0.15 * np.sin(2 * np.pi * t / 5.1))
    found = summarize_trace(log_of((t, swinging), name=A100), step_s=0.102)
    assert found["status"] == "aliased"
    drifting = summarize_trace(log_of((t, p * (1 + 0.1 * t / 5)), name=A100), step_s=0.102)
    assert drifting["status"] == "ok" and drifting["gpus"][0]["terms_j"]["aliasing"] > 0


def test_a_slow_logger_looks_away_longer_than_the_sensor():
    """One reading a second of a 100 / 25 ms sensor: three steps per second beat with the logger, and none of their harmonics with 10 Hz."""
    slow = log_of(flat(60.0, period_s=1.0), name=A100)
    assert summarize_trace(slow, step_s=1 / 3)["status"] == "aliased"
    assert summarize_trace(log_of(flat(60.0), name=A100), step_s=1 / 3)["status"] == "ok"


def test_intervals_of_phases_cover_the_truth_on_cards_that_creep_and_beat():
    """Phases of a log of a 25 / 100 ms sensor, gain and offset drawn from the budget, steps known: those not flagged are covered."""
    rng, covered = np.random.default_rng(21), []
    for _ in range(150):
        step_s = rng.uniform(0.015, 0.2)
        load = known_power.decode(1002.0, 12.0, step_s, rng.uniform(0.5, 0.95), 330.0, 150.0, 80.0)
        if rng.random() < 0.4:
            load, step_s = known_power.creep(1002.0, 12.0, rng.uniform(200, 330), 80.0), 0.037
        sensor = SensorSpec(0.1, 0.025, rng.uniform(0, 0.1), 0.09, rng.normal(1, 0.05), rng.normal(0, 8.3))
        t = 1000.0 + rng.uniform(0, 0.1) + np.arange(0, 16.0, 0.1)
        begin, end = np.sort(rng.uniform(1002.5, 1013.5, 2))
        if end - begin < 2:
            continue
        answer = summarize_trace(log_of((t, sensor.read(load, t)), name=A100), (begin - t[0], end - t[0]), step_s=step_s)
        if answer["status"] == "ok":
            covered.append(answer["energy_j"].low <= float(load.cumulative_j(end) - load.cumulative_j(begin)) <= answer["energy_j"].high)
    assert len(covered) > 60 and 0.90 <= np.mean(covered) <= 1.0, (len(covered), np.mean(covered))


def test_without_a_step_the_risk_is_in_the_interval_and_said():
    short, long = (summarize_trace(log_of(flat(s), name=A100)) for s in (3.0, 300.0))
    assert all(any("sees 25% of every 100 ms" in w and "--step" in w for w in a["warnings"]) for a in (short, long))
    shares = [a["gpus"][0]["terms_j"]["aliasing"] / a["energy_j"].value for a in (short, long)]
    assert shares == pytest.approx([0.16 * math.sqrt(3 * 0.1 / 3.0), 0.16 * math.sqrt(3 * 0.1 / 300.0)], rel=0.01)
    for name in ("NVIDIA L40S", H100):  # both are 1 s averages in power.draw
        assert not any("alias" in w for w in summarize_trace(log_of(flat(3.0), name=name))["warnings"])
    assert any("alias" in w for w in summarize_trace(log_of(flat(3.0), name=H100, column="power.draw.instant [W]"))["warnings"])


# Bursts of stamps


def turns(cards, rounds=40, lost=(), jitter_s=0.0):
    rng = np.random.default_rng(3)
    lines = [
        f"{r + 0.004 * g + rng.uniform(0, jitter_s):.4f},{100 + 100 * g}" for r in range(rounds) for g in range(cards) if (r, g) not in lost
    ]
    return "\n".join(["timestamp,power_w", *lines]) + "\n"


@pytest.mark.parametrize(("cards", "said"), [(3, 2), (2, 3), (1, 3), (1, 2), (3, 1), (2, 1)])
def test_a_number_of_cards_that_the_stamps_contradict_is_refused(cards, said, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(turns(cards))
    with pytest.raises(UserError, match=rf"--gpus says {said}"):
        read_log(path, gpus=said)
    assert len(read_log(path, gpus=cards).gpus) == cards


def test_a_lost_line_costs_its_round_and_does_not_rotate_the_cards(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(turns(3, lost={(7, 1), (20, 0)}))
    log = read_log(path, gpus=3)
    assert [set(g.power_w) for g in log.gpus] == [{100.0}, {200.0}, {300.0}]
    assert any("2 rounds" in w for w in log.warnings)
    answer = summarize_trace(log)
    assert [g["energy_j"] for g in answer["gpus"]] == pytest.approx([3900, 7800, 11700], rel=1e-3)


# Gaps and edges


def test_a_gap_at_an_edge_of_the_window_counts():
    """4.6 of 5.6 s unread: the next reading lies beyond the window, and its line says nothing of the time before it."""
    t = np.concatenate([np.arange(0, 10.05, 0.1), np.arange(14.6, 30, 0.1)])
    p = np.where(t < 9, 300.0, 80.0)
    found = summarize_trace(log_of((t, p)), (9.0, 14.6))
    assert found["status"] == "invalid" and found["gpus"][0]["missing_fraction"] == pytest.approx(4.5 / 5.6, abs=0.03)
    assert found["gpus"][0]["terms_j"]["gap"] == pytest.approx(4.5 * 220 / math.sqrt(12), rel=0.05)
    inside = summarize_trace(log_of((t, p)), (15.0, 20.0))
    assert inside["status"] == "ok" and inside["gpus"][0]["terms_j"]["gap"] == 0.0


def test_a_window_beyond_the_log_is_no_measurement_of_it():
    log = log_of(flat(10.0))
    beyond = summarize_trace(log, (5.0, 15.0))
    assert beyond["status"] == "invalid" and any("5.00 s beyond the log" in w for w in beyond["warnings"])
    assert summarize_trace(log, (5.0, 10.05))["status"] == "ok", "half a reading beyond is nothing"


def test_a_card_that_ends_early_is_seen():
    answer = summarize_trace(log_of(flat(60.0), flat(40.0)))
    assert [g["status"] for g in answer["gpus"]] == ["ok", "invalid"] and answer["status"] == "invalid"


def test_a_logger_that_jitters_leaves_no_gaps():
    """Steps of 0.1 and, one in five, 0.4 s over a flat load: right to 0.2 %, so no reason to call it invalid."""
    rng = np.random.default_rng(5)
    t = np.cumsum(np.where(rng.random(400) < 0.2, 0.4, 0.1))
    answer = summarize_trace(log_of((t, 300 + rng.normal(0, 2, 400))))
    assert answer["status"] == "ok" and answer["energy_j"].value == pytest.approx(300 * np.ptp(t), rel=0.002)


# Plausible watts


def test_spikes_and_negative_readings_are_left_out_and_said():
    t, p = flat(60.0)
    spiked = p.copy()
    spiked[100] = 655_000.0
    answer = summarize_trace(log_of((t, spiked), name=A100))
    assert answer["energy_j"].value == pytest.approx(18_000, rel=0.002) and answer["status"] == "ok"
    assert any("655,000 W" in w for w in answer["warnings"])
    negative = np.where(np.arange(len(p)) % 2, -p, p)
    answer = summarize_trace(log_of((t, negative)))
    assert answer["status"] == "invalid" and any("left out" in w for w in answer["warnings"])


@pytest.mark.parametrize(("name", "power_w"), [("", 199_000.0), (A100, 900.0), ("NVIDIA T4", 300.0)])
def test_a_card_cannot_draw_far_more_than_its_limit(name, power_w):
    with pytest.raises(UserError, match="milliwatts"):
        summarize_trace(log_of(flat(power_w=power_w), name=name))


def test_a_machine_in_milliwatts_is_refused():
    log = PowerLog((LoggedGpu(0, *flat(power_w=150_000.0), boundary="machine"),), "Power TOT", "seconds")
    with pytest.raises(UserError, match="milliwatts"):
        summarize_trace(log)


def test_the_limit_in_the_log_counts_before_the_catalog(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("timestamp, power.limit [W], power.draw [W]\n" + "".join(f"{i}, 150.00 W, 400.0 W\n" for i in range(20)))
    with pytest.raises(UserError, match="240 W"):
        summarize_trace(read_log(path))


def test_an_infinite_reading_is_a_missing_one(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("timestamp,power_w\n" + "".join(f"{i},{'inf' if i == 7 else 250 + i % 3}\n" for i in range(50)))
    answer = summarize_trace(read_log(path))
    assert answer["status"] == "ok" and math.isfinite(answer["energy_j"].high) and any("1 of 50" in w for w in answer["warnings"])


# Idle


def test_idle_cards_are_called_idle_by_their_board_and_their_utilization():
    def idle(power_w, name="", **more):
        return any("idle" in w for w in summarize_trace(log_of(flat(power_w=power_w), name=name, **more))["warnings"])

    assert idle(30, utilization_pct=4.0, unused_share=0.85) and not idle(30, utilization_pct=90.0, unused_share=0.1)
    assert idle(140, "MI300X") and idle(122, H100) and not idle(122, "NVIDIA T4".replace("T4", "A30"))
    assert idle(200) and not idle(300), "a board that nobody names may idle below 250 W"


# The interval


def test_the_interval_can_be_split():
    row = summarize_trace(log_of(flat(60.0)))["gpus"][0]
    terms = row["terms_j"]
    assert set(terms) == {"statistical", "granularity", "aliasing", "gap", "offset", "gain"}
    within = math.hypot(*(v for k, v in terms.items() if k != "gain"))
    assert row["within_card_j"].high / row["energy_j"] == pytest.approx(
        math.exp(1.96 * math.sqrt(math.log1p((within / row["energy_j"]) ** 2))), rel=1e-4
    )
    assert row["absolute_j"].high > row["within_card_j"].high and terms["gain"] == pytest.approx(0.05 * row["energy_j"])
    answer = summarize_trace(log_of(flat(60.0)))
    assert answer["energy_within_card_j"].high < answer["energy_j"].high


def test_scatter_of_independent_readings_is_their_standard_deviation():
    """Successive differences of independent readings have twice their variance (von Neumann 1941)."""
    row = summarize_trace(log_of(flat(100.0, period_s=0.1, noise_w=20.0)))["gpus"][0]
    assert row["terms_j"]["statistical"] == pytest.approx(20.0 * math.sqrt(100.0 * 0.1), rel=0.05)


def test_cards_that_work_in_turn_do_not_widen_their_sum():
    """A pipeline: one of four cards works at a time, each for 0.2 s; the sum is flat, and its statistical error is that of a flat load."""
    t = np.arange(0, 60, 0.1)
    stage = (t / 0.2).astype(int) % 4
    answer = summarize_trace(log_of(*((t, np.where(stage == g, 300.0, 100.0)) for g in range(4))))
    apart = math.hypot(*(g["terms_j"]["statistical"] for g in answer["gpus"]))
    offsets = math.hypot(*(g["terms_j"]["offset"] for g in answer["gpus"]))
    within = answer["energy_within_card_j"]
    u = within.value * math.sqrt(math.expm1((math.log(within.high / within.value) / 1.96) ** 2))
    assert u == pytest.approx(offsets, rel=0.02) and apart > 100


def test_rapl_has_the_gain_of_rapl_and_no_offset(tmp_path):
    log = PowerLog((LoggedGpu("dram", *flat(10.0, 12.0), boundary="dram"),), "energy-ram", "seconds")
    terms = summarize_trace(log)["gpus"][0]["terms_j"]
    assert terms["offset"] == 0.0 and terms["gain"] == pytest.approx(0.10 * 120, rel=0.01)


# The lag of single readings


def test_phases_are_read_later_by_the_lag_of_the_sensor():
    """A load that steps; a 100 / 25 ms sensor whose readings come 90 ms late: phases shifted by its lag are nearer."""
    rng = np.random.default_rng(11)
    shifted, plain = [], []
    for _ in range(60):
        parts = [(rng.uniform(2, 6), power, power) for power in rng.uniform(100, 350, 12)]
        load = known_power.pieces(1000.0, parts, 80.0)
        t = 1000.0 + rng.uniform(0, 0.1) + np.arange(0, load.stop_s - 1000.0, 0.1)
        seen = SensorSpec(0.1, 0.025, rng.uniform(0, 0.1), delay_s=0.09).read(load, t)
        edges = load.edge_s[4:7]
        truth_j = float(load.cumulative_j(edges[1]) - load.cumulative_j(edges[0]))
        for log, errors in ((log_of((t, seen), name=A100), shifted), (log_of((t, seen)), plain)):
            window = (edges[0] - t[0], edges[1] - t[0])
            errors.append(summarize_trace(log, window, step_s=0.037)["energy_j"].value / truth_j - 1)
    assert np.sqrt(np.mean(np.square(shifted))) < 0.5 * np.sqrt(np.mean(np.square(plain)))
    assert board_of(A100, "power.draw [W]").lag_s == pytest.approx(0.1525)


def test_phases_for_the_importers_have_every_term():
    rows = phase_energies(log_of(flat(60.0), name=A100))(10.0, 20.0)
    assert rows[0]["device_id"] == "gpu0" and rows[0]["energy_j"] == pytest.approx(3000, rel=0.01) and rows[0]["u_aliasing_j"] > 0
    assert {"u_statistical_j", "u_granularity_j", "u_gain_j", "u_offset_j"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("head", "row", "said"),
    [
        ("time,power", "{i},250.0", True),
        ("", "{i},250.0", True),
        ("time,gpu power", "{i},250.0", False),
        ("timestamp,index,power", "{i},0,250.0", False),
        ("", "{i},250.0 W", False),
    ],
)
def test_a_power_of_nobody_is_said_to_be_taken_for_a_card(tmp_path, head, row, said):
    path = tmp_path / "log.csv"
    path.write_text("\n".join([*([head] if head else []), *(row.format(i=i) for i in range(30))]) + "\n")
    assert any("whose power" in w for w in summarize_trace(read_log(path))["warnings"]) is said
    assert not any("whose power" in w for w in summarize_trace(read_log(path), gpu="a100")["warnings"])


def test_a_phase_that_begins_before_the_log_is_refused():
    card = LoggedGpu(0, 1714564800 + np.arange(100.0), np.full(100, 250.0))
    energies = phase_energies(PowerLog((card,), "power.draw", "seconds"))
    assert energies(1714564810.0, 1714564820.0)[0]["energy_j"] == pytest.approx(2500.0)
    with pytest.raises(UserError, match="phases inside the log"):
        energies(1714564790.0, 1714564820.0)


def test_cards_in_step_scatter_together_and_in_turn_against_each_other():
    """A square of 100 W amplitude at every reading: the sum of two in turn is constant, that of two in step swings twice as far."""
    t_s = np.arange(100.0)
    swing = np.where((t_s >= 10) & (t_s <= 90), 50.0 * (-1) ** np.arange(100), 0.0)  # and none outside of the window
    up, down = 300.0 + swing, 300.0 - swing
    one, same, other = LoggedGpu(0, t_s, up), LoggedGpu(1, t_s, up), LoggedGpu(1, t_s, down)
    assert _joint_scatter_j([one, other], 10.0, 90.0) == pytest.approx(0.0, abs=1e-9)
    alone_j = _joint_scatter_j([one], 10.0, 90.0)
    assert alone_j == pytest.approx(100 / math.sqrt(2) * math.sqrt(80)) and _joint_scatter_j([one, same], 10.0, 90.0) == pytest.approx(
        2 * alone_j
    )
