"""The bundled transformers: small, as good as their records say, and true to what they are asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import chronocam as cc
from chronocam.errors import TargetError
from chronocam.lab.data.digits import COLOURS, NUMBERS, scenes
from chronocam.lab.models import bundled
from chronocam.lab.models.transformers import NETWORKS, ColoursNet, transformer_record
from chronocam.lab.train.transformers import CAPTIONS, WEIGHTS, main
from chronocam.metrics import energy_inside
from chronocam.models import Loaded

NAMES = list(NETWORKS)


def loaded(name: str) -> Loaded:
    return Loaded(*bundled.transformer(name), f"chronocam:{name}")


def test_weights_are_small_and_whole() -> None:
    files = [WEIGHTS / f"{name}.safetensors" for name in NAMES]
    assert sum(file.stat().st_size for file in files) < 1_500_000
    for file in files:
        stored = load_file(file)
        assert all(value.isfinite().all() for value in stored.values())
        assert {value.dtype for value in stored.values()} <= {torch.float16, torch.int64}


@pytest.mark.parametrize("name", NAMES)
def test_records_hold_the_command(name: str) -> None:
    command = transformer_record(name)["command"]
    assert command.startswith(f"python -m chronocam.lab.train.transformers {name} --")
    assert "/" not in command.removeprefix("python ")


def test_networks_are_as_good_as_their_records_say() -> None:
    """On scenes that no record was measured on."""
    for name, figure, coloured in (
        ("digits-vit", "both digits right", False),
        ("colours", "both captions right", True),
    ):
        one, world = loaded(name), scenes(60, seed=3, coloured=coloured)
        x = torch.from_numpy(np.stack([one.preprocess(image) for image in world.images]))
        with torch.inference_mode():
            logits = one.model(x)
            if world.colours is not None:
                texts = one.model.encode_text(one.model.tokenize(CAPTIONS))
                logits = torch.nn.functional.normalize(logits) @ torch.nn.functional.normalize(texts).T
        best = np.sort(logits.topk(2, dim=1).indices.numpy(), axis=1)
        truth = world.labels if world.colours is None else 10 * world.colours + world.labels
        stated = transformer_record(name)[figure]
        right = (best == np.sort(truth, axis=1)).all(axis=1).mean()
        assert abs(right - stated) < 3 * np.sqrt(stated * (1 - stated) / 60)


def own_share(maps: np.ndarray, masks: np.ndarray) -> float:
    own, other = energy_inside(maps, masks), energy_inside(maps, masks[:, ::-1])
    return float((own / (own + other)).mean())


@pytest.mark.parametrize("method", ["legrad", "attentionrelevance", "gradientxattention"])
def test_maps_of_two_digits_lie_each_on_its_own(method: str) -> None:
    one, world = loaded("digits-vit"), scenes(12, seed=5)
    x = np.stack([one.preprocess(image) for image in world.images])
    maps = cc.methods.METHODS[method](one).explain(x, world.labels).upsample()
    assert own_share(maps, world.masks) > 0.6


def test_maps_of_two_captions_lie_each_on_its_own() -> None:
    one, world = loaded("colours"), scenes(12, seed=5, coloured=True)
    method = cc.AttentionRelevance(one)
    shares = []
    for image, captions, masks in zip(world.images, world.captions, world.masks, strict=True):
        maps = method.explain(one.preprocess(image)[None], [cc.targets.Caption(text) for text in captions])
        shares.append(own_share(maps.upsample(), masks[None]))
    assert np.mean(shares) > 0.6


def test_gestures_have_maps_over_time() -> None:
    one, world = loaded("gestures-transformer"), cc.data.gestures.clips(2, seed=5)
    x = np.stack([one.preprocess(clip) for clip in world.pixels])
    found = cc.LeGrad(one).explain(x, 0)
    assert found.dims == ("batch", "target", "time", "height", "width")
    assert found.maps.shape == (2, 1, 4, 8, 8)
    assert one.labels == tuple(cc.data.gestures.LABELS)


def test_coloured_scenes_are_grey_but_for_inks_of_their_names() -> None:
    world = scenes(30, seed=2, coloured=True)
    assert world.colours is not None
    again = scenes(3, seed=2, coloured=True)
    assert np.array_equal(again.images, world.images[:3])
    colourful = np.ptp(world.images.astype(int), axis=3)
    inks = np.array(list(COLOURS.values()))
    for image, spread, masks, colours in zip(
        world.images, colourful, world.masks, world.colours, strict=True
    ):
        assert np.median(spread[~masks.any(axis=0)]) < 40 < np.median(spread[masks.any(axis=0)])
        for mask, colour in zip(masks, colours, strict=True):
            seen = image[mask].mean(axis=0)
            angles = inks @ seen / np.linalg.norm(inks, axis=1) / np.linalg.norm(seen)
            assert angles.argmax() == colour
    assert (world.masks.sum(axis=(2, 3)) > 0).all()
    numbers, alike = world.labels[:, 0] == world.labels[:, 1], world.colours[:, 0] == world.colours[:, 1]
    assert not (numbers & alike).any()
    assert 0 < numbers.sum() < 30 > alike.sum() > 0
    first, ink = world.captions[0][0].split()[1:], list(COLOURS)[world.colours[0, 0]]
    assert first == [ink, NUMBERS[world.labels[0, 0]]]
    assert scenes(1).captions[0][0] == f"a {NUMBERS[scenes(1).labels[0, 0]]}"


def test_captions_of_other_words_are_refused() -> None:
    network = ColoursNet()
    assert torch.equal(network.tokenize(["a red Seven."]), network.tokenize(["a red seven"]))
    with pytest.raises(TargetError, match=r"does not know `bus`.* seven"):
        network.tokenize(["a red bus"])
    with pytest.raises(TargetError, match="at most 4"):
        network.tokenize(["a a a a red"])


@pytest.mark.parametrize("name", NAMES)
def test_training_writes_weights_with_their_figures(name: str, tmp_path: Path) -> None:
    close_ups = "0" if name == "gestures-transformer" else "1"
    sizes = ["--samples", "4", "--close-ups", close_ups, "--steps", "1", "--batch", "4", "--held-out", "5"]
    done = CliRunner().invoke(main, [name, *sizes, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    record: Any = json.loads((tmp_path / f"{name}.json").read_text())
    assert f"--samples 4 --close-ups {close_ups}" in record["command"]
    assert CliRunner().invoke(main, ["gestures-transformer", "--close-ups", "1"]).exit_code == 2
    stored, own = load_file(tmp_path / f"{name}.safetensors"), NETWORKS[name]().state_dict()
    assert {key: value.shape for key, value in stored.items()} == {
        key: value.shape for key, value in own.items()
    }
