"""The world of the demo network: honest splits, true masks, and weights as good as their record says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file
from scipy import ndimage

from chronocam.errors import ChronocamError, InputError
from chronocam.lab.data import digits as world
from chronocam.lab.data.digits import Scenes, scenes
from chronocam.lab.models.digits import INPUT_SIZE, MEAN, STD, digits_net, load_digits_net
from chronocam.lab.train.digits import WEIGHTS, main


@pytest.fixture(scope="module")
def held_out() -> Scenes:
    return scenes(200, seed=1)


@pytest.fixture(scope="module")
def empty() -> Scenes:
    """The held-out scenes again, with the digits left out and everything else the same."""
    place = world._place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "_place", lambda *arguments: 0 * place(*arguments))
        return scenes(200, seed=1)


def same(a: Scenes, b: Scenes) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("images", "labels", "masks"))


def logits_of(images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return load_digits_net()(normalised(images)).numpy()


def normalised(images: np.ndarray) -> torch.Tensor:
    batch = (torch.from_numpy(images) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return batch.permute(0, 3, 1, 2)


def in_box(mask: np.ndarray, peak: int) -> bool:
    """Say whether the flat index `peak` lies in the bounding box of `mask`."""
    at = np.unravel_index(peak, mask.shape)
    return all(line.min() <= place <= line.max() for line, place in zip(mask.nonzero(), at, strict=True))


def test_scenes_depend_on_their_arguments_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state must be left alone
    first = scenes(3, seed=4)
    assert same(first, scenes(3, seed=4))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    for other in (scenes(3, seed=5), scenes(3, seed=4, split="train")):
        assert not np.array_equal(first.images, other.images)
        assert not np.array_equal(first.masks, other.masks)
    assert not np.array_equal(scenes(9).labels, scenes(9, split="train").labels)


def test_a_longer_run_starts_with_the_shorter_one() -> None:
    longer = scenes(5, seed=2)
    assert same(scenes(2, seed=2), Scenes(longer.images[:2], longer.labels[:2], longer.masks[:2]))


@pytest.mark.parametrize("size", [48, 130])
def test_digits_keep_their_share_of_the_picture_at_any_size(size: int) -> None:
    made = scenes(20, size=size)
    assert made.images.shape == (20, size, size, 3)
    assert made.masks.shape == (20, 2, size, size)
    heights = made.masks.any(axis=3).sum(axis=2) / size
    assert 0.26 < heights.mean() < 0.34
    assert heights.max() < 0.5


def test_splits_share_neither_samples_nor_photographs() -> None:
    train, test = world._world("train"), world._world("test")
    assert len(train.glyphs) + len(test.glyphs) == 1797
    assert not {glyph.tobytes() for glyph in train.glyphs} & {glyph.tobytes() for glyph in test.glyphs}
    assert not {photo.tobytes() for photo in train.photos} & {photo.tobytes() for photo in test.photos}
    assert set(train.labels) == set(test.labels) == set(range(10))


def test_the_two_digits_differ_and_all_ten_occur_evenly(held_out: Scenes) -> None:
    assert (held_out.labels[:, 0] != held_out.labels[:, 1]).all()
    assert np.bincount(held_out.labels.ravel(), minlength=10).min() > 20


def test_masks_are_where_the_digits_changed_the_picture(held_out: Scenes, empty: Scenes) -> None:
    changed = np.abs(held_out.images.astype(int) - empty.images).max(axis=-1)
    ink = held_out.masks.any(axis=1)
    near = ndimage.binary_dilation(ink, np.ones((1, 7, 7)))
    assert not changed[~near].any()  # nothing but the digits differs
    assert (changed[ink] > 8).mean() > 0.98
    assert np.median(changed[ink]) > 60
    assert (changed > 40).sum() < 1.1 * ink.sum()  # the masks leave little ink out


def test_a_mask_is_where_ink_covers_more_than_half_of_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    place, coverage = world._place, []
    monkeypatch.setattr(
        world, "_place", lambda *arguments: coverage.append(place(*arguments)) or coverage[-1]
    )
    masks = scenes(4).masks
    assert np.array_equal(masks, np.stack(coverage) > 0.5)


def test_masks_do_not_touch(held_out: Scenes) -> None:
    first, second = (ndimage.binary_dilation(held_out.masks[:, k], np.ones((1, 3, 3))) for k in (0, 1))
    assert not (first & second).any()
    assert held_out.masks.sum(axis=(2, 3)).min() > 30


def test_each_mask_belongs_to_its_label(held_out: Scenes, empty: Scenes) -> None:
    """Erasing the ink under mask k takes away the evidence for digit k, and hardly that for the other."""
    rows, before = np.arange(200), logits_of(held_out.images)
    for k in (0, 1):
        erased = ndimage.binary_dilation(held_out.masks[:, k], np.ones((1, 5, 5)))[..., None]
        drop = before - logits_of(np.where(erased, empty.images, held_out.images))
        own, other = drop[rows, held_out.labels[:, k]], drop[rows, held_out.labels[:, 1 - k]]
        assert (own > other).mean() > 0.95
        assert np.median(own) > 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count is 0, expected at least 1"),
        ({"count": 1, "seed": -1}, "seed is -1, expected at least 0"),
        ({"count": 1, "size": 47}, "size is 47, expected at least 48"),
        ({"count": 1, "split": "tests"}, "no split `tests`, expected `train` or `test`; did you mean `test`"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, int | str], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        scenes(**arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", ["sklearn.datasets", "skimage.data"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    world._world.cache_clear()
    with pytest.raises(ChronocamError, match=rf"`{missing}` .* pip install 'chronocam\[train\]'"):
        scenes(1)


def test_importing_the_world_loads_no_framework() -> None:
    code = "import sys, chronocam.lab.data.digits; print({'torch', 'skimage', 'sklearn'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_bundled_weights_find_both_digits(held_out: Scenes) -> None:
    logits = logits_of(held_out.images)
    found = np.sort(np.argsort(logits, axis=1)[:, -2:], axis=1)
    both = (found == np.sort(held_out.labels, axis=1)).all(axis=1).mean()
    assert both > 0.87
    assert abs(both - json.loads(WEIGHTS.with_suffix(".json").read_text())["both digits right"]) < 0.05


def test_plain_cam_peaks_inside_the_box_of_each_digit(held_out: Scenes) -> None:
    network = load_digits_net()
    with torch.inference_mode():
        features = network.features(normalised(held_out.images))
        weights = network.classifier.weight[torch.from_numpy(held_out.labels)]
        maps = torch.einsum("bkc,bchw->bkhw", weights, features)
        peaks = torch.nn.functional.interpolate(maps, (96, 96), mode="bilinear").flatten(2).argmax(2).numpy()
    inside = [in_box(*pair) for pair in zip(held_out.masks.reshape(400, 96, 96), peaks.ravel(), strict=True)]
    assert np.mean(inside) > 0.88


def test_bundled_weights_are_small_and_carry_their_record() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    with safe_open(WEIGHTS, "pt") as stored:
        assert stored.metadata() == {name: str(value) for name, value in record.items()}


def test_the_network_averages_rectified_features_into_one_linear_layer() -> None:
    network = load_digits_net()
    assert not any(module.training for module in network.modules())
    images = torch.randn(2, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(0))
    features = network.features(images)
    assert features.shape == (2, 96, 12, 12)
    assert features.min() == 0
    expected = features.flatten(2).mean(2) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(images), expected)


def test_training_is_reproducible_and_seeded(tmp_path: Path) -> None:
    threads, made = torch.get_num_threads(), []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        path = tmp_path / f"{name}.safetensors"
        arguments = f"--seed {seed} --close-ups 2 --steps 2 --batch 4 --held-out 60 --out {path}".split()
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert json.loads(result.stdout) == json.loads(path.with_suffix(".json").read_text())
        made.append(load_file(path)["classifier.weight"])
    torch.set_num_threads(threads)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] * 3 + [".safetensors"] * 3
    digits_net().load_state_dict(load_file(tmp_path / "a.safetensors"))
