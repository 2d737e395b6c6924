"""What a stream's text messages may say."""

from __future__ import annotations

import pytest

from space.live.server import StreamClosed, _threshold


@pytest.mark.parametrize("value", [0.3, 0.7, 0.95])
def test_a_threshold_within_the_range_is_taken(value):
    assert _threshold(f'{{"threshold": {value}}}') == value


WRONG = (0.29, 0.96, '"0.5"', "true", "NaN", "null")


@pytest.mark.parametrize("text", [*(f'{{"threshold": {value}}}' for value in WRONG), "{}", "[0.5]", "0.5", ""])
def test_anything_else_closes_the_stream(text):
    with pytest.raises(StreamClosed, match=r"a threshold from 0\.3 to 0\.95"):
        _threshold(text)
