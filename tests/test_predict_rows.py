"""Rows to learn from: one card under one name, gross energy, copies and impossible rows out, every row left out with its reason."""

import pandas as pd
import pytest

from eai import catalog, tables
from eai.errors import UserError
from eai.predict import evidence, work
from eai.predict import sources as rows
from eai.predict.sources import LAWLESS, TABLE, all_rows, measured_rows


@pytest.fixture(scope="module")
def table():
    return all_rows([])


@pytest.fixture(scope="module")
def used(table):
    return table[table["why"] == ""]


def test_one_card_under_several_labels_is_one_card(used):
    """The source calls one card `a800` in one file and `a800_sxm_80gb` in another."""
    raw = tables.read_published(TABLE)
    assert {"a800", "a800_sxm_80gb"} <= set(raw["gpu"])
    assert set(used["gpu"]) == {"a800_sxm_80gb", "rtx4090d", "rtx5090"}


def test_models_of_one_shape_are_one():
    shape = lambda name: catalog.shape(name).key  # noqa: E731
    assert shape("mistral-7b-v0.1") == shape("mistralai/Mistral-7B-Instruct-v0.2")
    assert shape("qwen2-7b") == shape("qwen2.5-7b-instruct") != shape("yi-6b")


def test_gross_energy_is_power_over_throughput(used):
    """On all rows, also where the source prints a net figure: within the 3 % that an integral may differ."""
    raw = tables.read_published(TABLE)
    for row in used[used["session"].isin(("4090D-2026-02-12", "A800-2026-02-15-sweep"))].itertuples():
        line = int(row.source_row.split(":")[1]) - 2
        assert row.energy_j_per_token == pytest.approx(raw.loc[line, "power_w"] / raw.loc[line, "throughput_tok_s"], rel=0.03)
    net = raw[raw["session"] == "4090D-2026-02-12"]
    assert (net["energy_j_per_1k_tok"] / 1e3 < 0.97 * net["power_w"] / net["throughput_tok_s"]).mean() > 0.5, "a session printed net"


def test_a_printed_gross_energy_is_kept_where_it_is_an_integral_of_its_own(table):
    """Of a session that prints gross figures, those within 3 % of power over throughput; what is further off is computed."""
    raw = tables.read_published(TABLE)
    computed, printed = raw["power_w"] / raw["throughput_tok_s"], raw["energy_j_per_1k_tok"] / 1e3
    gross = (printed / computed).groupby(raw["session"]).transform("median") >= 0.97
    near = (gross & (printed / computed - 1).abs().lt(0.03)).to_numpy()
    assert near.sum() > 20 and (printed[near] != computed[near]).mean() > 0.5
    assert table["energy_j_per_token"].to_numpy()[near] == pytest.approx(printed[near].to_numpy(), rel=1e-12)


def test_the_bytes_of_a_mixtures_experts_are_in_the_time_that_no_step_undercuts(monkeypatch):
    mixture = rows.published_rows().head(1).assign(model="mistralai/Mixtral-8x7B-Instruct-v0.1", why="")
    monkeypatch.setattr(rows, "published_rows", lambda: mixture)
    made = work.of(mixture.iloc[0].to_dict())
    whole_gb = made["dense_gb"] + made["expert_gb"] + made["cache_gb"]
    assert all_rows([])["roofline_s"].tolist() == pytest.approx([whole_gb / made["bandwidth_gb_s"]]) and made["expert_gb"] > 10


def test_every_row_is_used_or_has_a_reason(table, used):
    assert len(table) == len(tables.read_published(TABLE))
    assert table.loc[table["why"] != "", "why"].str.len().min() > 10 and used["power_w"].notna().all()
    assert not used["source_row"].str.contains("grid").any() and not used["session"].str.startswith("dashboard").any()


def test_copies_count_once(table, used):
    assert not used.duplicated(["gpu", "shape", "quantization", "batch_size", "throughput_tok_s", "power_w"]).any()
    assert (table["why"] == "a copy of another row").sum() >= 2


def test_a_session_that_obeys_no_law_is_left_out_by_computation(table):
    """The time of a layer far from the memory's limit: 3.4-fold apart within the T4's session, at most 1.7-fold in the others'."""
    assert set(table.loc[table["why"] == LAWLESS, "session"]) == {"T4-csv"}
    raw = tables.read_published(TABLE)
    t4 = raw[(raw["session"] == "T4-csv") & (raw["quantization"] == "fp16")].set_index("model")["throughput_tok_s"]
    a_layer = [1 / t4[m] / catalog.model(m).layers for m in ("tinyllama-1.1b", "qwen2-7b")]
    assert a_layer[1] / a_layer[0] > 3


def test_work_is_that_of_the_shapes():
    """FP16 Mistral-7B moves its 7.24e9 parameters but the embedding (32000 x 4096) in two bytes each, and a little KV cache."""
    made = work.of({"gpu": "rtx5090", "model": "mistral-7b-v0.1", "quantization": "bf16", "input_tokens": 256, "output_tokens": 256})
    assert made["dense_gb"] == pytest.approx(2 * (7_241_732_096 - 32_000 * 4096) / 1e9, rel=1e-3)
    assert made["cache_gb"] == pytest.approx(2 * 32 * 8 * 128 * 2 * (256 + 128) / 1e9, rel=1e-3)
    awq = work.of({"gpu": "rtx5090", "model": "mistral-7b-v0.1", "quantization": "awq"})
    head = 32_000 * 4096 / 1e9
    assert awq["dense_gb"] == pytest.approx(((7.2417 - 2 * head) * 4.15 + head * 16) / 8, rel=1e-3), "the head stays in 16 bit"


def _summary(tmp_path, **changes):
    """A campaign of one configuration, as `eai run` writes it."""
    names = {"gpu": "h200_sxm", "model": "Qwen/Qwen2.5-7B-Instruct", "weights": "random", "quantization": "fp16", "batch_size": 1}
    lengths = {"options": "{}", "input_tokens": 256, "output_tokens": 256, "n_blocks": 5, "power_mean_w": 300.0}
    energy = {"energy_j_per_token": 5.0, "energy_j_per_token_abs_low": 4.9, "energy_j_per_token_abs_high": 5.1}
    rate = {"throughput_tok_s": 60.0, "throughput_tok_s_low": 59.0, "throughput_tok_s_high": 61.0}
    row = names | lengths | energy | rate | {"basis": "measured", "boundary": "gpu", "energy_kind": "gross", "gate": "ok"}
    folder = tmp_path / "campaign"
    folder.mkdir()
    pd.DataFrame([row | changes]).to_csv(folder / "summary.csv", index=False)
    return folder


def test_a_campaign_of_our_own_joins_the_rows(tmp_path):
    rows = all_rows([_summary(tmp_path)])
    (own,) = rows[(rows["basis"] == "measured") & (rows["why"] == "")].to_dict("records")
    assert own["gpu"] == "h200_sxm" and own["energy_j_per_token"] == pytest.approx(5.0) and own["source_row"] == "campaign/summary.csv:2"


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
        {"model": "acme/nameless"},
    ],
)
def test_rows_of_a_campaign_that_do_not_qualify_stay_out(tmp_path, changes):
    folder = _summary(tmp_path, **changes)
    rows = all_rows([folder])
    assert len(measured_rows(folder)) == 1 and not ((rows["basis"] != "published") & (rows["why"] == "")).any()
    with pytest.raises(UserError, match=r"no row of .*campaign that a prediction can be corrected by"):
        evidence([folder])
