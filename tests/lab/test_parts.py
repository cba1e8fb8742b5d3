"""Parts that are left out at rendering: nothing else changes, so what a network loses is theirs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

from scipy.ndimage import binary_dilation

from chronocam.errors import InputError
from chronocam.lab.data import digits, drives, gestures


def test_a_digit_is_left_out_with_its_ink_alone():
    scene, parts = digits.parts(3, seed=2)
    assert np.array_equal(scene.images[0], digits.scenes(4, seed=2).images[3])
    assert [part.name for part in parts[-2:]] == [str(label) for label in scene.labels[0]]
    for part, ink in zip(parts[-2:], scene.masks[0], strict=True):
        seen = part.where(scene.images[0])
        assert seen[ink].mean() > 0.9
        assert not seen[~binary_dilation(ink, iterations=3)].any()


def test_the_colours_of_what_is_painted_over_a_thing_stay():
    # Ink is chosen by what is under it, here with the thing that is missing.
    for index in range(6):
        scene, parts = digits.parts(index, seed=2)
        union = np.any([part.where(scene.images[0]) for part in parts], axis=0)
        bare = digits._scene(
            np.random.default_rng((2, 1, index)), digits._world("test"), 96, without=len(parts)
        )[0]
        assert np.array_equal(bare, scene.images[0])
        assert union.mean() < 0.6


def test_a_hand_is_in_its_arm_and_a_mouth_in_its_head():
    clip, parts = gestures.parts(4, frames=8, size=48)
    assert np.array_equal(clip.pixels, gestures.clip(4, frames=8, size=48).pixels)
    where = {part.name: part.where(clip.pixels) for part in parts}
    assert set(where) == {*gestures.figure.PARTS, "background"}
    body = binary_dilation(clip.actor_masks[0], np.ones((1, 3, 3)), iterations=3)
    for name, seen in where.items():
        if name != "background":
            assert seen.any()
            # Also the shadow that it throws on the body.
            assert not seen[~body].any()
    assert (where["left hand"] & ~where["left arm"]).mean() < 1e-3
    assert where["mouth"].sum() < where["head"].sum() / 5
    assert (where["mouth"] & ~where["head"]).mean() < 1e-3


def test_parts_of_two_people_are_of_one_each():
    clip, parts = gestures.parts(1, frames=8, size=48, actors=2)
    for part in parts:
        person = {"first": 0, "second": 1}.get(part.name.split()[0])
        if person is not None:
            assert not part.where(clip.pixels)[clip.actor_masks[1 - person]].any()


def test_motion_is_held_on_its_frames_alone():
    clip, moments = gestures.moments(2, length=3, frames=8, size=48)
    assert [part.name for part in moments] == ["1-3", "4-6"]
    for part in moments:
        first, last = map(int, part.name.split("-"))
        changed = part.where(clip.pixels).any(axis=(1, 2))
        assert changed[first : last + 1].any()
        assert not changed[:first].any()
        assert not changed[last + 1 :].any()
        # Nobody moves: what still changes from frame to frame is the camera, the light and the noise.
        moving = clip.actor_masks[0][first] | clip.actor_masks[0][last]
        held = np.abs(np.diff(part.pixels[first - 1 : last + 1].astype(int), axis=0))[:, moving].mean()
        live = np.abs(np.diff(clip.pixels[first - 1 : last + 1].astype(int), axis=0))[:, moving].mean()
        assert held < live


def test_a_thing_without_texture_changes_its_own_pixels():
    drive, parts = drives.parts(3, size=(32, 64))
    assert np.array_equal(drive.pixels, drives.drive(3, frames=2, size=(32, 64)).pixels)
    seen = np.stack([part.where(drive.pixels) for part in parts])
    assert seen.any(axis=(1, 2, 3)).sum() >= len(parts) - 1  # one wall may be bare already
    # Things share pixels at their edges alone.
    assert (seen.sum(axis=0) > 1).mean() < 0.1


@pytest.mark.parametrize("of", [digits.parts, gestures.parts, gestures.moments, drives.parts])
def test_parts_are_of_scenes_that_exist(of):
    with pytest.raises(InputError):
        of(-1)
