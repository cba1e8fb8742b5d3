"""The gesture world: honest splits, actions that can be seen, and truth that says where and when they are."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chronocam.errors import ChronocamError, InputError
from chronocam.lab.data import gestures
from chronocam.lab.data.gestures import LABELS, PHOTOS, Clips, Record, clip, clips, world
from chronocam.lab.data.gestures.camera import MARGIN, draw_camera
from chronocam.lab.data.gestures.canvas import Canvas, Cones, Paint
from chronocam.lab.data.gestures.figure import joints
from chronocam.lab.data.gestures.identity import CELLS, SPLITS, Identity, draw_identity
from chronocam.lab.data.gestures.motion import Track, draw_progress, draw_track
from chronocam.lab.data.gestures.world import Conditions, labels_of, render
from chronocam.media import read_clip

CALM = Conditions(shake=0, light=0, noise=0, restless=0, busy=False)
NAMES = tuple(field.name for field in fields(Clips))


@pytest.fixture(scope="module")
def held_out() -> Clips:
    return clips(40, seed=1)


@pytest.fixture(scope="module")
def pairs() -> Clips:
    return clips(20, seed=1, actors=2)


def same(a: Clips | Record, b: Clips | Record) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)


def first(several: Clips, count: int) -> Clips:
    return Clips(*(getattr(several, name)[:count] for name in NAMES))


def calm(index: int, label: str, monkeypatch: pytest.MonkeyPatch, **change: float | int | bool) -> Record:
    """Render one actor who does `label`, and nothing else moves but what `change` says."""
    monkeypatch.setattr(world, "labels_of", lambda *arguments: (LABELS.index(label),))
    return render(index, 3, "test", 16, 64, 1, Conditions(**{**CALM.__dict__, **change}))


def person(seed: int = 0) -> Identity:
    return draw_identity(np.random.default_rng(seed), "train")


def track(label: str, seed: int, progress: np.ndarray, restless: float | int = 0) -> Track:
    rng = np.random.default_rng(seed)
    return draw_track(rng, label, progress, person(seed), narrow=False, restless=restless)


def steady(frames: int = 40) -> np.ndarray:
    return np.clip((np.arange(frames) - 4) / (frames - 9), 0, 1)


# what a clip depends on


def test_clips_depend_on_their_arguments_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state must be left alone
    made = clips(3, seed=4)
    assert same(made, clips(3, seed=4))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    for other in (clips(3, seed=5), clips(3, seed=4, split="train"), clips(3, seed=4, split="validation")):
        assert not np.array_equal(made.pixels, other.pixels)
        assert not np.array_equal(made.actor_masks, other.actor_masks)


@pytest.mark.parametrize("actors", [1, 2])
def test_a_longer_run_starts_with_the_shorter_one(actors: int) -> None:
    longer = clips(4, seed=2, actors=actors)
    assert same(clips(2, seed=2, actors=actors), first(longer, 2))
    alone = clip(3, seed=2, actors=actors)
    assert all(np.array_equal(getattr(alone, name), getattr(longer, name)[3]) for name in NAMES)


def test_shapes_and_types() -> None:
    made = clips(2, frames=9, size=50, actors=2)
    assert made.pixels.shape == (2, 9, 50, 50, 3)
    assert made.labels.shape == (2, 2)
    assert made.masks.shape == made.actor_masks.shape == (2, 2, 9, 50, 50)
    assert made.active.shape == (2, 2, 9)
    assert made.pixels.dtype == np.uint8
    assert made.masks.dtype == made.actor_masks.dtype == made.active.dtype == bool


def test_the_same_scene_at_any_size() -> None:
    small, large = (clip(7, size=size) for size in (64, 128))
    coarse = large.actor_masks.reshape(1, 16, 64, 2, 64, 2).mean((3, 5)) > 0.5
    assert (coarse & small.actor_masks).sum() > 0.93 * (coarse | small.actor_masks).sum()
    means = (made.pixels.astype(float).mean((1, 2)) for made in (small, large))
    assert np.abs(np.subtract(*means)).max() < 4


def test_conditions_leave_the_rest_as_it_was() -> None:
    usual = render(5, 0, "test", 16, 64, 1, Conditions())
    plain = render(5, 0, "test", 16, 64, 1, Conditions(light=0, noise=0, busy=False))
    assert np.array_equal(usual.masks, plain.masks)
    assert np.array_equal(usual.actor_masks, plain.actor_masks)
    assert not np.array_equal(usual.pixels, plain.pixels)
    assert same(render(5, 0, "test", 16, 64, 1, Conditions()), clip(5))


# splits and classes


def test_splits_share_no_photographs() -> None:
    bytes_of = {split: {photo.tobytes() for photo in world._photos(split)} for split in PHOTOS}
    assert tuple(PHOTOS) == SPLITS
    assert {split: len(photos) for split, photos in bytes_of.items()} == {s: len(PHOTOS[s]) for s in SPLITS}
    assert len(set.union(*bytes_of.values())) == sum(map(len, PHOTOS.values()))


def test_splits_share_no_property_of_a_person_but_cover_the_same_range() -> None:
    drawn = {}
    for split in SPLITS:
        rng = np.random.default_rng(0)
        people = [draw_identity(rng, split).properties for _ in range(400)]
        drawn[split] = np.array([list(properties.values()) for properties in people])
    cells = {split: {*np.floor(values * CELLS).astype(int).ravel()} for split, values in drawn.items()}
    assert sum(map(len, cells.values())) == len(set.union(*cells.values())) == CELLS
    for values in drawn.values():
        assert (values.min(0) < 0.12).all()
        assert (values.max(0) > 0.85).all()
        assert np.abs(values.mean(0) - 0.5).max() < 0.08
    gaps = [np.abs(drawn["train"][:, None] - drawn[split]).min() for split in ("validation", "test")]
    assert min(gaps) > 0.1 / CELLS


def test_every_class_occurs_once_in_five_clips_and_every_pair_in_twenty() -> None:
    single = [labels_of(index, 0, "train", 1) for index in range(50)]
    pairs = [labels_of(index, 0, "train", 2) for index in range(40)]
    assert all(sorted(single[at : at + 5]) == [(k,) for k in range(5)] for at in range(0, 50, 5))
    every = {(a, b) for a in range(5) for b in range(5) if a != b}
    assert set(pairs[:20]) == set(pairs[20:]) == every
    assert len({tuple(single[at : at + 5]) for at in range(0, 50, 5)}) > 5  # not always in one order
    assert single != [labels_of(index, 0, "test", 1) for index in range(50)]


# when


@pytest.mark.parametrize("frames", [8, 16, 33])
def test_actions_take_a_part_of_the_clip_with_rest_on_both_sides(frames: int) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_progress(rng, frames) for _ in range(1500)])
    lengths, before, after = (part.sum(1) for part in ((drawn > 0) & (drawn < 1), drawn == 0, drawn == 1))
    assert lengths.min() == round(0.35 * frames)
    assert abs(lengths.max() - 0.7 * frames) <= 0.5
    assert before.min() == after.min() == 1
    counts = [np.bincount(part, minlength=frames) / 1500 for part in (before, after)]
    assert np.abs(counts[0] - counts[1]).max() < 0.06  # as likely before as after: no hint for raise or lower
    assert (np.diff(drawn) >= 0).all()


def test_active_frames_are_those_of_the_masks(held_out: Clips, pairs: Clips) -> None:
    for made in (held_out, pairs):
        area = made.masks.sum((3, 4))
        assert np.array_equal(area > 0, made.active)
        assert area[made.active].min() >= 10
        assert 0.35 < made.active.mean() < 0.7


# raise and lower


def test_lower_is_raise_in_reverse_down_to_the_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = np.clip((np.arange(16) - 3) / 9, 0, 1)  # as long a rest before as after
    assert np.allclose(progress, 1 - progress[::-1])
    monkeypatch.setattr(world, "draw_progress", lambda rng, frames: progress)
    for index in range(4):
        up, down = (calm(index, label, monkeypatch, restless=1) for label in ("raise", "lower"))
        assert np.array_equal(up.masks, down.masks[:, ::-1])
        off = np.abs(up.pixels.astype(int) - down.pixels[::-1])
        assert off.max() <= 1  # rounding of a progress that is its own mirror image only nearly
        assert not np.array_equal(up.pixels, down.pixels)


def test_raise_goes_up_and_lower_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3):
        for label, sign in (("raise", -1), ("lower", 1)):
            made = calm(index, label, monkeypatch)
            top = [mask.any(1).argmax() for mask in made.masks[0, made.active[0]]]
            assert sign * (top[-1] - top[0]) > 12


def test_everything_else_in_a_track_is_as_likely_as_its_reverse() -> None:
    progress = np.clip((np.arange(16) - 3) / 9, 0, 1)
    tracks = [track("raise", seed, progress, restless=1) for seed in range(400)]
    for name in ("sway", "tilt", "turn", "lids"):
        values = np.array([getattr(one, name).reshape(16, -1) for one in tracks])
        speed = np.diff(values, axis=1)
        assert np.abs(speed.mean((0, 1))).max() < 0.01
        assert np.abs(values[:, :8].std((0, 1)) / values[:, 8:].std((0, 1)) - 1).max() < 0.15


# what the actions look like


def test_wave_swings_the_forearm_about_the_elbow() -> None:
    for seed in range(10):
        moved = track("wave", seed, steady())
        arm = moved.acting.index(True)
        body = joints(person(seed), moved)
        middle = slice(13, 27)
        assert np.ptp(body.elbow[middle, arm], 0).max() < 1e-9  # the elbow rests while
        across = body.wrist[middle, arm, 0] - body.elbow[middle, arm, 0]
        assert np.ptp(across) > 0.35  # the hand swings
        assert (body.wrist[middle, arm, 1] < body.elbow[middle, arm, 1] - 0.3).all()  # above the elbow
        turns = np.count_nonzero(np.diff(np.sign(np.diff(across))))
        assert turns >= 2
        other = 1 - arm
        assert np.ptp(body.wrist[:, other], 0).max() < 1e-9


def test_clapping_hands_meet_again_and_again_before_the_chest() -> None:
    for seed in range(10):
        body = joints(person(seed), track("clap", seed, steady(80)))
        apart = (body.wrist[:, 1, 0] - body.wrist[:, 0, 0])[25:55]
        valleys = (apart[1:-1] < apart[:-2]) & (apart[1:-1] <= apart[2:])
        assert valleys.sum() >= 1
        assert apart.min() < 0.3
        assert apart.max() > 0.85
        assert (np.abs(body.wrist[25:55, :, 1] - 0.725) < 0.13).all()
        assert (
            np.abs(body.elbow[25:55, :, 0]) > np.abs(body.shoulder[25:55, :, 0])
        ).all()  # elbows away from the body


def test_clapping_hands_come_together_in_the_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3):
        made = calm(index, "clap", monkeypatch)
        middle = made.masks[0, made.active[0]][2:-2]
        width = [np.ptp(np.flatnonzero(mask.any(0))) for mask in middle]
        assert max(width) - min(width) >= 4


def test_smile_widens_the_mouth_and_goes_away() -> None:
    smile = track("smile", 0, steady()).smile
    assert smile[:4].max() == smile[-4:].max() < 1e-12
    assert smile.max() == 1
    assert all(track(label, 0, steady()).smile.max() == 0 for label in LABELS if label != "smile")


@pytest.mark.parametrize("label", LABELS)
def test_nothing_but_the_action_changes_a_calm_picture(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks are where the action is: what changes from the frame before lies in or around them."""
    for index in range(4):
        made = calm(index, label, monkeypatch)
        change = np.abs(np.diff(made.pixels.astype(int), axis=0)).max(-1)
        masks, active = made.masks[0], made.active[0]
        acting = active[1:] & active[:-1]
        where = (masks[1:] | masks[:-1])[acting]
        reach = 1 if label == "smile" else 4  # an arm throws a shadow of two pixels
        assert not change[acting][
            ~np.array([ndimage.binary_dilation(mask, iterations=reach) for mask in where])
        ].any()
        assert not change[~(active[1:] | active[:-1])].any()
        assert (change[acting].max((1, 2)) > 8).mean() > (0.3 if label == "smile" else 0.9)
        still = made.pixels[0].astype(int)
        assert (np.abs(made.pixels[active] - still).max((0, 3)) > 40).sum() >= 8  # seen at 64 pixels


def test_masks_are_where_the_clip_moves_most(held_out: Clips) -> None:
    """Also with shake, light, noise and distractors.

    A smile is too small a change to be told by motion alone.
    """
    arms = held_out.labels[:, 0] != LABELS.index("smile")
    pixels, masks = held_out.pixels[arms].astype(float), held_out.masks[arms, 0]
    change = np.abs(np.diff(pixels, axis=1)).max(-1)
    moving = masks[:, 1:] | masks[:, :-1]
    inside = (change * moving).sum((1, 2, 3)) / moving.sum((1, 2, 3))
    outside = (change * ~moving).sum((1, 2, 3)) / (~moving).sum((1, 2, 3))
    assert (inside > outside).mean() > 0.9


# where


def test_masks_lie_inside_their_actor(held_out: Clips, pairs: Clips) -> None:
    for made in (held_out, pairs):
        assert not (made.masks & ~made.actor_masks).any()
        assert made.actor_masks.any((3, 4)).all()
        assert made.masks.sum() < 0.35 * made.actor_masks[made.active].sum()


def test_two_actors_do_different_things_at_once_without_touching(pairs: Clips) -> None:
    assert (pairs.labels[:, 0] != pairs.labels[:, 1]).all()
    assert pairs.active.all(1).sum(1).min() >= 4
    left, right = pairs.actor_masks[:, 0], pairs.actor_masks[:, 1]
    assert not (left & right).any()
    ends = 63 - left.any((1, 2))[:, ::-1].argmax(1)
    columns = np.arange(64)
    centres = [(actor.any(2) * columns).sum((1, 2)) / actor.any(2).sum((1, 2)) for actor in (left, right)]
    assert (centres[0] + 10 < centres[1]).all()
    assert ends.max() < 63
    area = pairs.actor_masks.sum((3, 4)).mean(2)
    assert area.min() > 250


def test_occluded_parts_are_not_in_the_mask() -> None:
    canvas = Canvas(np.zeros((3, 1, 40, 40), np.float32), 2)
    canvas.paint(disc(0.5, 0.5, 0.3), Paint(np.array([1.0, 0.0, 0.0]), mattes=(0,)))
    canvas.paint(disc(0.5, 0.5, 0.15), Paint(np.array([0.0, 1.0, 0.0]), mattes=(1,)))
    assert canvas.matte(0).sum() == pytest.approx(np.pi * (12**2 - 6**2), rel=0.01)
    assert canvas.matte(1).sum() == pytest.approx(np.pi * 6**2, rel=0.01)
    assert np.array_equal(canvas.colours[0], canvas.matte(0))


# the painter, the camera, the light


def disc(x: float, y: float, radius: float) -> Cones:
    return Cones(np.full((2, 1, 1, 2), [x, y]), np.full((2, 1, 1), radius))


def test_shapes_have_the_area_and_the_place_that_geometry_gives_them() -> None:
    canvas = Canvas(np.zeros((3, 1, 60, 60), np.float32), 0)
    capsule = Cones(np.array([[[[0.21, 0.4]]], [[[0.7, 0.4]]]]), np.full((2, 1, 1), 0.1))
    canvas.paint(capsule, Paint(np.ones(3)))
    alpha = canvas.colours[0, 0]
    assert alpha.sum() == pytest.approx(2 * 6 * 0.49 * 60 + np.pi * 36, rel=0.005)
    centre = ndimage.center_of_mass(alpha)
    assert centre == pytest.approx((0.4 * 60 - 0.5, 0.455 * 60 - 0.5), abs=0.02)


def test_a_shape_out_of_sight_changes_nothing() -> None:
    canvas = Canvas(np.zeros((3, 1, 30, 30), np.float32), 0)
    canvas.paint(disc(1.5, -0.5, 0.2), Paint(np.ones(3)))
    assert not canvas.colours.any()


def test_shadows_fall_on_the_own_body_alone() -> None:
    canvas = Canvas(np.ones((3, 1, 40, 40), np.float32), 1)
    canvas.paint(disc(0.3, 0.5, 0.2), Paint(np.ones(3), mattes=(0,)))
    canvas.shade(disc(0.5, 0.5, 0.1), 0, 0.4)
    dark = canvas.colours[0, 0] < 1
    assert dark.any()
    assert not (dark & (canvas.matte(0)[0] == 0)).any()
    assert canvas.colours.min() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_camera_moves_photograph_and_actors_alike(seed: int) -> None:
    camera = draw_camera(np.random.default_rng(seed), 12, 1)
    side, size = 264, 64
    photo = np.zeros((side, side, 3), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    point = np.array([0.7, 0.35])
    x, y = (point + MARGIN) / (1 + 2 * MARGIN) * side - 0.5
    photo[(columns - x) ** 2 + (rows - y) ** 2 < 100] = 255
    film = camera.film(photo, size)
    places = size * camera.project(point[None, None])[:, 0] - 0.5
    for frame, (x, y) in zip(film[0], places, strict=True):
        assert ndimage.center_of_mass(frame) == pytest.approx((y, x), abs=0.25)
    assert np.ptp(places, 0).max() > 0.5
    assert film[:, :, 0].min() == film[:, :, :, -1].min() == 0


def test_the_camera_never_looks_beyond_the_photograph() -> None:
    white = np.full((120, 120, 3), 255, np.uint8)
    for seed in range(40):
        assert draw_camera(np.random.default_rng(seed), 16, 1).film(white, 48).min() > 0.99


# bad arguments, files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count is 0, expected at least 1"),
        ({"count": 1, "seed": -1}, "seed is -1, expected at least 0"),
        ({"count": 1, "size": 47}, "size is 47, expected at least 48"),
        ({"count": 1, "frames": 7}, "frames is 7, expected at least 8"),
        ({"count": 1, "actors": 3}, "actors is 3, expected 1 or 2"),
        ({"count": 1, "split": "valid"}, "no split `valid`, expected one of .*; did you mean `validation`"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, int | str], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        clips(**arguments)
    assert "\n" not in str(raised.value)


def test_a_negative_index_is_named() -> None:
    with pytest.raises(InputError, match="index is -1, expected at least 0"):
        clip(-1)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    world._photos.cache_clear()
    with pytest.raises(ChronocamError, match=r"`skimage.data` .* pip install 'chronocam\[train\]'"):
        clip(0)


def test_importing_the_world_loads_no_framework() -> None:
    heavy = "{'torch', 'skimage', 'sklearn', 'av'}"
    code = f"import sys, chronocam.lab.data.gestures; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_export_writes_folders_per_class(tmp_path: Path) -> None:
    assert gestures.export(tmp_path, 5, split="validation", seed=2, frames=10, size=64) == tmp_path
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert {path.parts[1] for path in files} == set(LABELS)
    assert sorted(path.name for path in files) == [f"{index:05d}.mp4" for index in range(5)]
    made = clips(5, split="validation", seed=2, frames=10, size=64)
    for path in files:
        index = int(path.stem)
        assert path.parts[:2] == ("validation", LABELS[made.labels[index, 0]])
        pixels = read_clip(tmp_path / path, frames=10).pixels
        assert pixels.shape == made.pixels[index].shape
        assert np.abs(pixels.astype(float) - made.pixels[index]).mean() < 8


def test_export_refuses_an_empty_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="count is 0, expected at least 1"):
        gestures.export(tmp_path, 0)
    assert not [*tmp_path.iterdir()]
