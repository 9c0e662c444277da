"""The reference quantizer against its defining properties and torch, and the check of a printed example."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantizers import affine, symmetric

from eai.claims import relations
from eai.claims.tabular import build

RANGES = st.tuples(st.floats(-1e4, -1e-3), st.floats(1e-3, 1e4))


@given(RANGES, st.floats(0, 1))
def test_affine_error_is_at_most_half_a_step(ends, share):
    q = affine(*ends)
    x = ends[0] + share * (ends[1] - ends[0])
    back = q.dequantize(q.quantize(np.array([x])))[0]
    # the zero point is rounded to a whole code, so an end of the range may lie half a step outside
    assert abs(back - x) <= q.step * (1 + 1e-9)


@given(RANGES)
def test_affine_holds_zero_exactly(ends):
    q = affine(*ends)
    assert q.dequantize(q.quantize(np.array([0.0])))[0] == 0.0


@given(st.floats(1e-3, 1e4), st.floats(-1, 1))
def test_symmetric_is_odd_and_within_half_a_step(largest, share):
    q = symmetric(largest)
    x = np.array([share * largest])
    assert q.quantize(-x)[0] == -q.quantize(x)[0]
    assert abs(q.dequantize(q.quantize(x))[0] - x[0]) <= q.step / 2 * (1 + 1e-9)


def test_affine_agrees_with_torch():
    torch = pytest.importorskip("torch")
    q = affine(-6.5, 8.6)
    x = np.linspace(-8, 10, 301)
    theirs = torch.fake_quantize_per_tensor_affine(torch.tensor(x, dtype=torch.float32), q.step, int(q.zero_point), q.q_min, q.q_max)
    # torch works in 32 bits: a value within 1e-4 of a half code may go the other way
    near_half = np.abs((q.scale * x) % 1 - 0.5) < 1e-4
    assert q.dequantize(q.quantize(x))[~near_half] == pytest.approx(theirs.numpy()[~near_half], abs=1e-5)


@pytest.mark.parametrize("ends", [(0.0, 0.0), (float("-inf"), 1.0), (float("nan"), 1.0)])
def test_affine_refuses_an_empty_range(ends):
    with pytest.raises(ValueError, match="cannot be quantized"):
        affine(*ends)


@pytest.mark.parametrize("largest", [0.0, -1.0, float("inf")])
def test_symmetric_refuses_a_bad_magnitude(largest):
    with pytest.raises(ValueError, match="positive and finite"):
        symmetric(largest)


def _example(x, q):
    return build(pd.DataFrame({"x": x, "q": q, "scale": 2.0, "zero_point": 10, "q_min": 0, "q_max": 20}), "example")


def test_a_correct_example_is_consistent():
    # 2 x + 10: 12, 7, clamped 20, clamped 0
    (finding,) = relations.affine(_example([1.0, -1.5, 9.0, -9.0], [12, 7, 20, 0]))
    assert finding.verdict == "consistent"


def test_a_wrong_code_is_found_with_its_row_and_its_rounding():
    (finding,) = relations.affine(_example([1.0, 2.45], [12, 14]))
    assert (finding.verdict, finding.computed, tuple(finding.positions)) == ("inconsistent", "15", (1,))
    assert "rounded down" in finding.reason
