"""The clean rows: one accounting, one card under one name, copies and impossible rows out, every row left out with its reason."""

import numpy as np
import pandas as pd
import pytest

from eai import catalog, tables
from eai.errors import UserError
from eai.predict import clean_rows, left_out
from eai.predict.features import canonical, feature_table, linears_a_layer, shape
from eai.predict.rows import LAWLESS, all_rows


@pytest.fixture(scope="module")
def gross():
    return clean_rows("gross", [])


@pytest.fixture(scope="module")
def net():
    return clean_rows("net", [])


def test_one_card_under_several_labels_is_one_card(gross):
    """The source calls one card `a800` in one file and `a800_sxm_80gb` in another."""
    raw = tables.read_published("ecocompute_measurements")
    assert {"a800", "a800_sxm_80gb"} <= set(raw["gpu"])
    assert set(gross["gpu"]) == {"a800_sxm_80gb", "rtx4090d", "rtx5090"}


def test_models_of_one_shape_are_one(gross):
    assert shape(catalog.model("mistral-7b-v0.1")) == shape(catalog.model("mistral-7b-instruct-v0.3"))
    assert shape(catalog.model("qwen2-7b")) == shape(catalog.model("qwen2.5-7b-instruct")) != shape(catalog.model("yi-6b"))


def test_gross_energy_is_power_over_throughput(gross):
    """On all rows, also where the source prints a net figure: within the 3 % that an integral may differ."""
    raw = tables.read_published("ecocompute_measurements")
    for row in gross[gross["session"].isin(("4090D-2026-02-12", "A800-2026-02-15-sweep"))].itertuples():
        line = int(row.rows.split(":")[1]) - 2
        assert row.energy_j_per_token == pytest.approx(raw.loc[line, "power_w"] / raw.loc[line, "throughput_tok_s"], rel=0.03)


def test_net_and_gross_are_never_mixed(gross, net):
    """Net rows are those whose printed energy lies below power / throughput by the idle power: 17 W on this card."""
    assert set(net["gpu"]) == {"rtx4090d"} and set(net["accounting"]) == {"net"} and set(gross["accounting"]) == {"gross"}
    idle_w = net["power_w"] - net["energy_j_per_token"] * net["throughput_tok_s"]
    assert idle_w.between(15, 20).all()
    both = gross.merge(net, on=["session", "shape", "quantization"], suffixes=("", "_net"))
    assert len(both) == len(net) and (both["energy_j_per_token"] > both["energy_j_per_token_net"] * 1.05).all()


def test_the_synthetic_grid_and_rows_without_power_are_no_evidence(gross):
    assert not gross["rows"].str.contains("grid").any()
    assert gross["power_w"].notna().all() and not gross["session"].str.startswith("dashboard").any()


def test_every_row_is_used_or_has_a_reason():
    table = all_rows("gross", [])
    raw = tables.read_published("ecocompute_measurements")
    assert len(table) == len(raw)
    reasons = left_out("gross", [])
    assert reasons["rows"].sum() == (table["why"] != "").sum() and (reasons["why"].str.len() > 10).all()


def test_copies_count_once():
    table = all_rows("gross", [])
    used = table[table["why"] == ""]
    assert not used.duplicated(["gpu", "shape", "quantization", "batch_size", "throughput_tok_s", "power_w"]).any()
    assert (table["why"] == "a copy of another row").sum() >= 2


def test_a_session_that_obeys_no_law_is_left_out_by_computation():
    """The time of a layer far from the memory's limit: 3.4-fold apart within the T4's session, at most 1.7-fold in the others'."""
    table = all_rows("gross", [])
    assert set(table.loc[table["why"] == LAWLESS, "session"]) == {"T4-csv"}
    raw = tables.read_published("ecocompute_measurements")
    t4 = raw[(raw["session"] == "T4-csv") & (raw["quantization"] == "fp16")].set_index("model")["throughput_tok_s"]
    a_layer = [1 / t4[m] / catalog.model(m).layers for m in ("tinyllama-1.1b", "qwen2-7b")]
    assert a_layer[1] / a_layer[0] > 3


def test_features_are_those_of_the_shapes():
    """FP16 Mistral-7B moves its 7.24e9 parameters but the embedding (32000 x 4096) in two bytes each, and a little KV cache."""
    rows = pd.DataFrame(
        [("rtx5090", "mistral-7b-v0.1", "bf16", 1, 256, 256)],
        columns=["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"],
    )
    made = feature_table(rows).iloc[0]
    weights = 2 * (7_241_732_096 - 32_000 * 4096) / 1e9
    cache = 2 * 32 * 8 * 128 * 2 * (256 + 255 / 2) / 1e9
    assert made["step_gb"] == pytest.approx(weights + cache, rel=1e-3)
    assert made["roofline_s"] == pytest.approx(made["step_gb"] / 1792) and made["quantization"] == "fp16"
    assert made["modules"] == 7 * 32 and linears_a_layer(catalog.model("phi-3-mini")) == 4


def test_canonical_strategies():
    assert [canonical(q) for q in ("bf16", "int8_t0", "int8_t6", "nf4")] == ["fp16", "int8_pure", "int8_default", "nf4"]


def test_another_accounting_is_refused():
    with pytest.raises(UserError, match="gross or net"):
        all_rows("idle")


def _summary(tmp_path, **changes):
    """A campaign of one configuration, as `eai run` writes it."""
    names = {
        "gpu": "h200_sxm",
        "model": "Qwen/Qwen2.5-7B-Instruct",
        "weights": "random",
        "quantization": "fp16",
        "batch_size": 1,
        "options": "{}",
    }
    lengths = {"input_tokens": 256, "output_tokens": 256, "n_blocks": 5, "power_mean_w": 300.0}
    energy = {"energy_j_per_token": 5.0, "energy_j_per_token_abs_low": 4.9, "energy_j_per_token_abs_high": 5.1}
    rate = {"throughput_tok_s": 60.0, "throughput_tok_s_low": 59.0, "throughput_tok_s_high": 61.0}
    row = names | lengths | energy | rate | {"basis": "measured", "boundary": "gpu", "energy_kind": "gross", "gate": "ok"}
    folder = tmp_path / "campaign"
    folder.mkdir()
    pd.DataFrame([row | changes]).to_csv(folder / "summary.csv", index=False)
    return folder


def test_a_campaign_of_our_own_joins_the_rows(tmp_path):
    rows = clean_rows("gross", [_summary(tmp_path)])
    (own,) = rows[rows["basis"] == "measured"].to_dict("records")
    assert own["gpu"] == "h200_sxm" and own["energy_j_per_token"] == pytest.approx(5.0) and own["rows"] == "campaign/summary.csv:2"
    assert own["u_log"] == pytest.approx(np.log(5.1 / 4.9) / 3.92)


@pytest.mark.parametrize(
    "changes",
    [
        {"boundary": "cpu_package"},
        {"basis": "estimated"},
        {"gate": "rejected"},
        {"energy_kind": "net"},
        {"quantization": "int8_default"},
        {"options": '{"load":"closed:4"}'},
        {"input_tokens": 0},
    ],
)
def test_rows_of_a_campaign_that_do_not_qualify_stay_out(tmp_path, changes):
    rows = clean_rows("gross", [_summary(tmp_path, **changes)])
    assert not (rows["basis"] == "measured").any()
