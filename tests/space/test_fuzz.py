"""A short, seeded run of tests/tools/fuzz.py, and properties of what takes arrays and texts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from space.annotate import blur, draw
from space.batch.tables import spreadsheet_safe
from space.crop import crop, load_template
from space.face import Face
from tests.support.app import python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "inputs"), [("photo", 1000), ("live", 500), ("zip", 500), ("bundle", 1000), ("video", 200)]
)
def test_broken_bytes_end_in_a_sentence(target, inputs):
    pytest.importorskip("atheris", reason="needs atheris, which is there for Linux only")
    result = python("-m", "tests.tools.fuzz", target, "--inputs", inputs, "--seed", 7)
    assert result.returncode == 0, result.stderr[-3000:]
    # It may try a few more, from its seeds.
    assert int(re.search(r"Done (\d+) runs", result.stderr)[1]) >= inputs


anything = st.one_of(
    arrays.arrays(
        st.sampled_from([np.uint8, np.float32, np.int64, np.bool_]), arrays.array_shapes(max_dims=5, max_side=9)
    ),
    arrays.arrays(np.uint8, st.tuples(st.integers(0, 40), st.integers(0, 40), st.just(3))),
)


@settings(max_examples=150, deadline=5000, derandomize=True)
@given(anything)
def test_any_array_is_analysed_or_refused(analyzer, array):
    good = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size
    if good:
        assert isinstance(analyzer.analyze(array), list)
    else:
        with pytest.raises(ValueError, match="must be uint8"):
            analyzer.analyze(array)


numbers = st.floats(-1e5, 1e5) | st.sampled_from([0.0, 1e-9, 1e9])
sides = st.floats(1, 1e5)  # detectors give no smaller ones


@settings(max_examples=150, deadline=5000, derandomize=True)
@given(
    st.tuples(numbers, numbers, sides, sides),
    arrays.arrays(np.float32, (5, 2), elements=numbers.map(np.float32).map(float)),
)
def test_any_box_is_cropped_drawn_and_blurred(box, landmarks):
    picture = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)
    face = Face(box, 0.9, landmarks, age=30.0, age_low=20.0, age_high=40.0, p_female=0.1)
    assert crop(picture, face, load_template()).shape == (200, 200, 3)
    assert draw(picture, [face]).shape == blur(picture, [face]).shape == picture.shape


@settings(max_examples=500, derandomize=True)
@given(st.text())
def test_no_text_is_a_formula_in_a_spreadsheet(text):
    safe = spreadsheet_safe(text)
    for part in safe.split(";"):
        assert not part.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert safe.replace("'", "") == text.replace("'", "")
