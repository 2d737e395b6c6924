"""Cuts between scenes, and flashes that look like cuts."""

from __future__ import annotations

import numpy as np

from space.video.scenes import CUT, FLASH_FRAMES, SceneCuts, _change


def plain(*rgb: int) -> np.ndarray:
    return np.full((90, 160, 3), rgb, np.uint8)


RED, NIGHT, SNOW = plain(200, 30, 30), plain(10, 10, 10), plain(240, 240, 240)


def cuts(*frames: np.ndarray) -> list[bool]:
    found = SceneCuts()
    return [found.is_cut(frame) for frame in frames]


def test_another_scene_is_a_cut_and_a_change_of_light_is_none():
    assert cuts(RED, RED, NIGHT, NIGHT, RED) == [False, False, True, False, True]
    lighter = [plain(100 + 20 * i, 15 + 3 * i, 15 + 3 * i) for i in range(6)]
    assert not any(cuts(*lighter))


def test_the_change_of_hue_is_the_shorter_way_around():
    one, other = np.zeros((2, 27, 48, 3), int)
    one[..., 0], other[..., 0] = 178, 3
    assert _change(one, other) == 5 / 3  # the mean of hue, saturation and value
    one[..., 0], other[..., 0], other[..., 1], other[..., 2] = 0, 90, 255, 255
    assert _change(one, other) == 200


def test_a_value_is_a_cut_from_just_above_the_limit():
    step = int(CUT * 3)  # the value alone changes
    assert cuts(plain(0, 0, 0), plain(step, step, step)) == [False, False]
    assert cuts(plain(0, 0, 0), plain(step + 1, step + 1, step + 1)) == [False, True]


def test_a_flash_ends_with_the_scene_before_it():
    for frames in range(1, FLASH_FRAMES + 2):
        found = SceneCuts()
        assert not found.is_cut(RED)
        assert found.is_cut(NIGHT) and not found.is_back()
        for _ in range(frames - 1):
            assert not found.is_cut(NIGHT)
        assert found.is_cut(RED) and found.is_back() == (frames <= FLASH_FRAMES)


def test_a_third_scene_is_no_flash():
    found = SceneCuts()
    assert not found.is_cut(RED)
    assert found.is_cut(NIGHT) and not found.is_back()
    assert found.is_cut(SNOW) and not found.is_back()
    assert found.is_cut(NIGHT) and found.is_back()  # SNOW was the flash
