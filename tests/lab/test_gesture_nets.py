"""The three small networks for gestures: what they compute, what they weigh, and what their records claim."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from chronocam.errors import ModelError
from chronocam.lab.data import gestures as world
from chronocam.lab.models.gestures import NAMES, Small3D, gesture_net, gesture_record, load_gesture_net
from chronocam.lab.train.torch.classifier import voted
from chronocam.media import ClipPreprocess, Preprocess
from chronocam.models import load

WEIGHTS = Path(str(files("chronocam.lab"))) / "weights"
AXES = {name: "channel time" if name == "gestures-3d" else "time channel" for name in NAMES}
SHAPES = {"channel time": (2, 3, 16, 64, 64), "time channel": (2, 16, 3, 64, 64)}


def clips_for(name: str, seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPES[AXES[name]], generator=torch.Generator().manual_seed(seed))


def logits_of(outputs: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
    return outputs["logits"] if isinstance(outputs, dict) else outputs


@pytest.mark.parametrize("name", NAMES)
def test_bundled_networks_load_with_their_preprocessing_and_labels(name: str) -> None:
    loaded = load(f"chronocam:{name}")
    half = (0.5, 0.5, 0.5)
    assert loaded.preprocess == ClipPreprocess(Preprocess((64, 64), None, half, half), 16, AXES[name])
    assert loaded.labels == tuple(world.LABELS) == loaded.model.labels
    assert not any(module.training for module in loaded.model.modules())
    clip = loaded.preprocess(np.zeros((16, 50, 40, 3), np.uint8))
    assert (clip == -1).all()
    steps = (16,) if name == "gestures-steps" else ()
    assert logits_of(loaded.model(torch.from_numpy(clip)[None])).shape == (1, *steps, 5)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_whole(name: str) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= 1_500_000
    stored, own = load_file(path), load_gesture_net(name).state_dict()
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[key], own[key]) for key in own)
    assert all(value.isfinite().all() for value in stored.values())


@pytest.mark.parametrize("name", NAMES)
def test_records_hold_the_command_and_figures_that_agree_with_each_other(name: str) -> None:
    record = gesture_record(name)
    assert record["command"].startswith(f"chronocam train video --data gestures --arch {record['arch']} ")
    assert "/" not in record["command"]
    figures = record["held-out"]
    confusion = np.array(figures["confusion"])
    assert confusion.sum() == figures["clips"] == 1000
    assert np.trace(confusion) / 1000 == pytest.approx(figures["accuracy"])
    assert list(figures["recall"].values()) == pytest.approx(
        np.diag(confusion) / confusion.sum(axis=1), abs=1e-3
    )
    low, high = figures["interval"]
    assert low < figures["accuracy"] < high
    assert (record["clips unreadable"], record["clips missing"]) == ([], 0)


@pytest.fixture(scope="module")
def held_out() -> world.Clips:
    """Clips of persons and photographs new to the networks, in scenes that no record was measured on."""
    return world.clips(150, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_networks_are_as_good_as_their_records_say(name: str, held_out: world.Clips) -> None:
    loaded = load(f"chronocam:{name}")
    inputs = torch.from_numpy(np.stack([loaded.preprocess(clip) for clip in held_out.pixels]))
    with torch.inference_mode():
        found = voted(logits_of(loaded.model(inputs))).numpy()
    stated = gesture_record(name)["held-out"]["accuracy"]
    spread = np.sqrt(stated * (1 - stated) / len(found))
    assert abs((found == held_out.labels[:, 0]).mean() - stated) < 3 * spread


def test_the_order_of_frames_is_what_tells_raise_from_lower(held_out: world.Clips) -> None:
    """Played backwards, a raised arm is lowered: the answer must turn with it."""
    loaded = load("chronocam:gestures-3d")
    chosen = np.isin(held_out.labels[:, 0], [world.LABELS.index("raise"), world.LABELS.index("lower")])
    inputs = torch.from_numpy(np.stack([loaded.preprocess(clip) for clip in held_out.pixels[chosen]]))
    margin = torch.tensor([0.0, 0, 0, 1, -1])
    with torch.inference_mode():
        forward, backward = (loaded.model(i) @ margin for i in (inputs, inputs.flip(2)))
    assert ((forward > 0) != (backward > 0)).float().mean() > 0.7


def test_the_3d_network_averages_rectified_features_and_is_linear_from_there() -> None:
    network, clips = load_gesture_net("gestures-3d"), clips_for("gestures-3d")
    norm, classifier = network.norm, network.classifier
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = classifier.weight * gain
    bias = classifier.bias + classifier.weight @ (norm.bias - gain * norm.running_mean)
    features = network.features(clips)
    assert features.shape == (2, 64, 8, 8, 8)
    assert features.min() == 0
    expected = features.flatten(2).mean(2) @ weight.T + bias
    torch.testing.assert_close(network(clips), expected, rtol=1e-4, atol=1e-4)


def test_three_quarters_of_the_first_filters_begin_blind_to_what_stands_still() -> None:
    torch.manual_seed(0)
    network = Small3D()
    still = clips_for("gestures-3d")[:, :, :1].expand(-1, -1, 5, -1, -1)
    seen = network.features[0][0](still)[:, :, 2]  # the middle: no frame beside it is padding
    assert seen[:, :24].abs().max() < 1e-5
    assert seen[:, 24:].abs().mean() > 0.05


def test_both_lstms_stand_on_the_same_cnn() -> None:
    lstm, attention = gesture_net("gestures-lstm"), gesture_net("gestures-attention")
    assert str(lstm.backbone) == str(attention.backbone)
    assert lstm.attention is None
    outputs = attention.eval()(clips_for("gestures-attention"))
    torch.testing.assert_close(outputs["attention"].sum(1), torch.ones(2))
    features = lstm.eval().backbone.features(clips_for("gestures-lstm")[0])
    assert features.shape == (16, 64, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_a_file_go_into_the_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = gesture_net(name).eval()
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    again = load_gesture_net(name, tmp_path / "a.safetensors")
    by_spec = load(f"{tmp_path}/a.safetensors@chronocam:{name}")
    for other in (again, by_spec.model):
        torch.testing.assert_close(
            logits_of(other(clips_for(name))), logits_of(network(clips_for(name))), rtol=0, atol=0
        )
    bundled = logits_of(load_gesture_net(name)(clips_for(name)))
    assert not torch.allclose(bundled, logits_of(network(clips_for(name))))


def test_unknown_networks_are_named_with_the_known_ones() -> None:
    for ask in (gesture_net, gesture_record, load_gesture_net):
        with pytest.raises(
            ModelError, match="no network `gestures-2d`; expected one of gestures-3d"
        ) as raised:
            ask("gestures-2d")
        assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="did you mean `gestures-attention`"):
        load("chronocam:gesture-attention")


def test_records_are_json_as_training_writes_it() -> None:
    for name in NAMES:
        text = (WEIGHTS / f"{name}.json").read_text()
        assert text == json.dumps(json.loads(text), indent=2) + "\n"
