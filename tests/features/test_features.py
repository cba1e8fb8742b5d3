"""Channels as pictures: feature maps, filters, activation maximisation; each against a closed form."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import InputError, LayerError, LayoutError, MediaError, ModelError, TargetError
from chronocam.features import activation_maximisation, feature_maps, filters
from chronocam.features.climb import coarser, laplacian, unit
from chronocam.media import Preprocess
from chronocam.render.sheets.features import chosen, flat

pytestmark = pytest.mark.usefixtures("one_thread")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).eval()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def state(net: nn.Module) -> list[object]:
    hooks = [len(module._forward_hooks) for module in net.modules()]
    modes = [module.training for module in net.modules()]
    values = [value.clone() for value in net.state_dict().values()]
    return [
        hooks,
        modes,
        [p.requires_grad for p in net.parameters()],
        [p.grad for p in net.parameters()],
        values,
    ]


def same(one: list[object], other: list[object]) -> bool:
    *plain, values = one
    *others, expected = other
    return plain == others and all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


# Feature maps


def test_feature_maps_are_the_activations_of_the_layer() -> None:
    net, x = small(), noise(2, 3, 16, 12)
    with torch.no_grad():
        expected = net[:4](torch.from_numpy(x)).numpy()
    found = feature_maps(net, "3", x)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-6)
    assert (found.layer, found.of, found.channels) == ("3", 5, (0, 1, 2, 3, 4))
    some = feature_maps(net, net[3], x, [4, 1])
    np.testing.assert_array_equal(some.maps, found.maps[:, [4, 1]])
    assert (some.channels, some.of) == ((4, 1), 5)


def test_strongest_channels_come_first() -> None:
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[0, 1], maps[0, 2, 0, 0], maps[1, 0] = -1.0, 2.0, 1.0  # means of |A|: 0, 1, 0.5 and 1, 0, 0
    found = cc.features.FeatureMaps(maps, (7, 3, 5), "conv", 9)
    assert found.strongest() == [3, 5, 7]
    assert found.strongest(1, 1) == [7]


def test_one_scale_or_each_its_own() -> None:
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, 0, 0, 0], maps[0, 1, 0, 0] = 4.0, 1.0
    found = cc.features.FeatureMaps(maps, (0, 1), "conv", 2)

    def scales(**options: str) -> list[tuple[float, float]]:
        return [image.get_clim() for axis in found.plot(**options).axes for image in axis.images]

    assert scales() == [(0, 4), (0, 4)]
    assert scales(scale="channel") == [(0, 4), (0, 1)]
    titles = [axis.get_title() for axis in found.plot(scale="channel").axes]
    assert titles == ["0: 0 to 4", "1: 0 to 1"]
    maps[0, 1, 1, 1] = -2.0
    assert scales(scale="channel") == [(0, 4), (-2, 2)]
    assert scales() == [(-4, 4), (-4, 4)]
    with pytest.raises(InputError, match="no scale `both`; choose all"):
        found.plot(scale="both")
    with pytest.raises(InputError, match="no sample 1; there are 1"):
        found.plot(sample=1)


def test_maps_of_clips_and_of_frames_seen_one_by_one() -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    ).eval()
    clip = noise(1, 3, 5, 8, 8)
    with torch.no_grad():
        expected = deep[:2](torch.from_numpy(clip)).numpy()
    found = feature_maps(deep, "1", clip)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-5, atol=1e-6)
    folded = cc.models.PerFrame(small())
    frames = noise(2, 4, 3, 16, 16)
    found = feature_maps(folded, "model.3", frames)
    with torch.no_grad():
        one = small()[:4](torch.from_numpy(frames[1])).numpy()  # (time, channel, height, width)
    np.testing.assert_allclose(found.maps[1], one.swapaxes(0, 1), rtol=1e-5, atol=1e-6)
    assert found.picture().ndim == 3


def test_maps_of_vision_tokens_are_put_on_their_grid() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.block = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(self.embed(x).flatten(2).transpose(1, 2)).mean(1)

    torch.manual_seed(0)
    net, x = Patches().eval(), noise(1, 3, 16, 16)
    with torch.no_grad():
        tokens = net.block(net.embed(torch.from_numpy(x)).flatten(2).transpose(1, 2))
    np.testing.assert_allclose(
        feature_maps(net, "block", x).maps[0, 2], tokens[0, :, 2].reshape(4, 4), rtol=1e-5
    )


def test_what_has_no_maps_is_refused() -> None:
    net, x = small(), noise(1, 3, 16, 16)
    with pytest.raises(LayerError, match="no channel 5; it has 5"):
        feature_maps(net, "3", x, [5])
    with pytest.raises(LayerError, match="no channel -1"):
        feature_maps(net, "3", x, [-1])
    with pytest.raises(LayerError, match="channels is empty"):
        feature_maps(net, "3", x, [])
    with pytest.raises(LayerError, match="no layer `33`"):
        feature_maps(net, "33", x)
    with pytest.raises(LayerError, match="is what the model is given"):
        feature_maps(net, "input", x)
    with pytest.raises(LayoutError, match="no grid"):
        feature_maps(net, "6", x)
    with pytest.raises(ModelError, match="cannot explain"):
        feature_maps(object(), "3", x)


def test_records_are_written(tmp_path: Path) -> None:
    found = feature_maps(small(), "3", noise(1, 3, 16, 16))
    assert Image.open(found.save(tmp_path / "a.png", count=2)).size[0] > 100
    with np.load(found.save(tmp_path / "a.npz"), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["maps"], found.maps)
        assert str(file["layer"]) == "3"
    with pytest.raises(MediaError, match=r"cannot save as `a\.txt`"):
        found.save(tmp_path / "a.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "a.png"]


# Filters


def test_filters_are_the_kernels_of_the_first_convolution() -> None:
    net = small()
    found = filters(net)
    np.testing.assert_array_equal(found.kernels, net[0].weight.detach().numpy())
    assert found.layer == "0"
    np.testing.assert_array_equal(filters(net, net[3]).kernels, net[3].weight.detach().numpy())
    with pytest.raises(LayerError, match="layer `2` is not a convolution; choose one of 0, 3"):
        filters(net, "2")
    with pytest.raises(ModelError, match="has no convolution"):
        filters(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="cannot explain"):
        filters(object())


def drawn(kernels: np.ndarray, **options: object) -> list[tuple[str, np.ndarray]]:
    figure = cc.features.Filters(kernels.astype(np.float32), "conv").plot(**options)
    return [(axis.get_title(), np.asarray(axis.images[0].get_array())) for axis in figure.axes if axis.images]


def test_colours_of_a_filter_are_its_weights_around_grey() -> None:
    kernels = np.zeros((2, 3, 1, 2))
    kernels[0, 0], kernels[0, 2] = [[2.0, 0.0]], [[0.0, -1.0]]
    kernels[1] = 0.1
    (_, first), (_, second) = drawn(kernels)
    np.testing.assert_array_equal(first, [[[255, 128, 128], [128, 128, 64]]])
    assert (second == 255).all()  # scaled by its own largest weight


def test_filters_of_other_channels() -> None:
    one = drawn(np.array([[[[-2.0, 1.0]]]]))
    assert one[0][0] == "0"
    np.testing.assert_allclose(one[0][1], [[-1, 0.5]])
    many = np.zeros((1, 8, 1, 2))
    many[0, 5], many[0, 2] = [[3.0, 4.0]], [[4.5, 0.0]]  # norms 5 and 4.5
    ((name, values),) = drawn(many)
    assert name == "0 ← 5"
    np.testing.assert_allclose(values, [[3 / 4.5, 4 / 4.5]])
    pair = np.zeros((1, 6, 2, 2))
    pair[0, 3] = 1.0  # red of the second picture
    ((_, values),) = drawn(pair)
    np.testing.assert_array_equal(values[0], [[128] * 3, [128] * 3, [255, 128, 128], [255, 128, 128]])


def test_kernels_over_time() -> None:
    kernels = np.zeros((1, 3, 3, 2, 2))
    kernels[0, :, 1] = 1.0
    ((_, middle),) = drawn(kernels, frames="middle")
    assert middle.shape == (2, 2, 3)
    assert (middle == 255).all()
    ((_, row),) = drawn(kernels)
    assert row.shape == (2, 8, 3)  # three frames and two gaps
    np.testing.assert_array_equal(row[0, :, 0], [128, 128, 255, 255, 255, 255, 128, 128])
    with pytest.raises(InputError, match="no frames `first`"):
        drawn(kernels, frames="first")


def test_few_filters_are_those_of_the_largest_norm() -> None:
    kernels = np.ones((4, 1, 1, 1)) * np.array([1.0, 4.0, 2.0, -3.0]).reshape(4, 1, 1, 1)
    assert [name for name, _ in drawn(kernels, count=2)] == ["1", "3"]


def test_grids_are_laid_out_flat() -> None:
    np.testing.assert_array_equal(flat(np.arange(16.0)), [np.arange(16.0)] * 2)
    stack = np.arange(3.0)[:, None, None] * np.ones((1, 2, 1))
    np.testing.assert_array_equal(flat(stack)[0], [0, np.nan, 1, np.nan, 2])
    assert chosen(9, 3) == [0, 4, 8]
    assert chosen(5, 1) == [2]
    assert chosen(3, None) == [0, 1, 2]


# Activation maximisation


def test_the_input_that_excites_a_linear_filter_is_the_filter() -> None:
    """Where a layer sees the whole input, ascent ends at a multiple of the kernel (norm alone holds it)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 2, bias=False))
    found = activation_maximisation(
        net, "1", 1, shape=(3, 6, 6), steps=60, rate=0.1, jitter=0, spectrum=0, variation=0, norm=1
    )
    weight = net[1].weight[1].detach().numpy()
    z = found.inputs[0].ravel()
    assert z @ weight / np.linalg.norm(z) / np.linalg.norm(weight) > 0.999
    # z ← 0.9 z + 0.1 ŵ from noise, ŵ of root mean square 1: in closed form
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 6, 6)).astype(np.float32).ravel()
    expected = 0.9**60 * noise + (1 - 0.9**60) * weight / np.sqrt(np.mean(weight**2))
    np.testing.assert_allclose(z, expected, atol=1e-4)
    np.testing.assert_allclose(found.curves[0, [0, -1]], [noise @ weight, expected @ weight], rtol=1e-3)


def test_each_term_of_the_step_in_closed_form() -> None:
    z = np.random.default_rng(0).normal(size=(1, 2, 4, 5)).astype(np.float32)
    step = 1e-3
    energy = np.zeros_like(z)
    for index in np.ndindex(z.shape):  # −∂V/∂z by finite differences
        values = []
        for sign in (1, -1):
            moved = z.astype(np.float64)
            moved[index] += sign * step
            values.append(0.5 * sum((np.diff(moved, axis=axis) ** 2).sum() for axis in (2, 3)))
        energy[index] = -(values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(laplacian(z, (2, 3)), energy, atol=1e-4)
    scaled = unit(np.stack([z[0], 100 * z[0], 0 * z[0]]))
    np.testing.assert_allclose((scaled**2).mean((1, 2, 3)), [1, 1, 0], rtol=1e-5)
    x = np.arange(32)
    waves = [np.cos(2 * np.pi * cycles * x / 32) for cycles in (2, 4, 8, 16)]
    gains = [float(coarser(w, 0.5, (0,))[0]) for w in waves]
    np.testing.assert_allclose(gains, [4**-0.5, 4**-0.5, 8**-0.5, 16**-0.5], rtol=1e-5)


def test_activation_rises_far_above_noise_and_the_model_is_left_as_found() -> None:
    net = small()
    before = state(net)
    found = activation_maximisation(net, "3", [2, 4], shape=(3, 24, 24), steps=24)
    assert same(before, state(net))
    assert found.curves.shape == (2, 25)
    assert found.names == ("channel 2", "channel 4")
    with torch.no_grad():
        reached = net[:4](torch.from_numpy(found.inputs)).mean((2, 3)).numpy()
        others = net[:4](torch.from_numpy(noise(50, 3, 24, 24))).mean((2, 3)).numpy()
    np.testing.assert_allclose(found.curves[:, -1], [reached[0, 2], reached[1, 4]], rtol=1e-4)
    for place, channel in enumerate((2, 4)):
        spread = others[:, channel].std()
        assert found.curves[place, -1] > found.curves[place, 0] + 10 * spread
        assert found.curves[place, -1] > others[:, channel].max()


def test_a_class_is_maximised_at_the_output() -> None:
    net = small()
    net.labels = ("ant", "bee", "cat", "dog")  # type: ignore[assignment]
    found = activation_maximisation(net, None, ["cat", 0], shape=(3, 16, 16), steps=12)
    assert (found.channels, found.names, found.layer) == ((2, 0), ("cat", "ant"), "output")
    with torch.no_grad():
        logits = net(torch.from_numpy(found.inputs)).numpy()
    np.testing.assert_allclose(found.curves[:, -1], [logits[0, 2], logits[1, 0]], rtol=1e-4)
    with_softmax = nn.Sequential(net, nn.Softmax(1)).eval()
    same_one = activation_maximisation(with_softmax, None, 2, shape=(3, 16, 16), steps=12)
    np.testing.assert_allclose(same_one.curves[0], found.curves[0], rtol=1e-4)


def test_every_setting_counts_and_the_seed_decides() -> None:
    def run(**options: float) -> np.ndarray:
        return activation_maximisation(small(), "3", 1, **{"shape": (3, 16, 16), "steps": 4} | options).inputs

    usual = run()
    np.testing.assert_array_equal(usual, run())
    for other in ({"seed": 1}, {"jitter": 0}, {"spectrum": 0}, {"variation": 0}, {"norm": 0}, {"rate": 0.1}):
        assert not np.allclose(usual, run(**other)), other
    assert (
        np.abs(laplacian(run(variation=2, steps=12), (2, 3))).mean()
        < np.abs(laplacian(run(steps=12), (2, 3))).mean()
    )
    assert np.square(run(norm=5, steps=12)).mean() < np.square(run(steps=12)).mean()


def test_colours_stay_among_those_that_there_are() -> None:
    preprocess = Preprocess(20, (16, 16), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    found = activation_maximisation(small(), "3", 1, preprocess=preprocess, steps=40, rate=0.3)
    assert found.inputs.shape == (1, 3, 16, 16)
    colours = found.inputs[0] * np.reshape(preprocess.std, (3, 1, 1)) + np.reshape(preprocess.mean, (3, 1, 1))
    assert colours.min() > -1e-6
    assert colours.max() < 1 + 1e-6
    assert (colours < 1e-6).any()
    assert (colours > 1 - 1e-6).any()
    np.testing.assert_array_equal(
        found.pictures()[0], np.rint(255 * colours.transpose(1, 2, 0)).astype(np.uint8)
    )


def test_signals_and_clips_have_inputs_too() -> None:
    torch.manual_seed(0)
    signal = nn.Sequential(
        nn.Conv1d(2, 4, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    ).eval()
    found = activation_maximisation(signal, "0", [0, 1, 2, 3], shape=(2, 32), steps=10)
    assert (found.curves[:, -1] > found.curves[:, 0] + 0.2).all()
    clips = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    ).eval()
    found = activation_maximisation(clips, "1", 2, shape=(3, 4, 10, 10), steps=10)
    assert found.curves[0, -1] > 3 * found.curves[0, 0]
    assert found.pictures()[0].shape == (10, 43, 3)
    assert found.picture().ndim == 3


def test_a_channel_that_does_not_rise_is_told() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([-100.0, 100.0]))
    found = activation_maximisation(net, "1", [0, 1], shape=(3, 8, 8), steps=3)
    assert found.diagnostics == (
        "channel 0 of 1 did not rise; a closed ReLU passes no gradient: take the layer before "
        "it, or another seed",
    )


def test_what_cannot_be_maximised_is_refused() -> None:
    net = small()
    with pytest.raises(TargetError, match="no channel 5 in 3; it has 5"):
        activation_maximisation(net, "3", 5, shape=(3, 16, 16))
    with pytest.raises(TargetError, match="counted from 0"):
        activation_maximisation(net, "3", -1, shape=(3, 16, 16))
    with pytest.raises(TargetError, match="`cat` is a name"):
        activation_maximisation(net, "3", "cat", shape=(3, 16, 16))
    with pytest.raises(TargetError, match="no channel is named"):
        activation_maximisation(net, "3", [], shape=(3, 16, 16))
    with pytest.raises(InputError, match="steps is 0, expected at least 1"):
        activation_maximisation(net, "3", 1, shape=(3, 16, 16), steps=0)
    with pytest.raises(InputError, match="rate is 0"):
        activation_maximisation(net, "3", 1, shape=(3, 16, 16), rate=0)
    with pytest.raises(InputError, match="overshoots"):
        activation_maximisation(net, "3", 1, shape=(3, 16, 16), rate=1)
    with pytest.raises(InputError, match="shape is"):
        activation_maximisation(net, "3", 1, shape=(16,))


# On the command line

FACTORY = """
import torch
from torch import nn
from chronocam.media import Preprocess

def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
                          nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    preprocess = Preprocess(resize=40, crop=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    return model, preprocess, ("cat", "../dog", "emu")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features_factory.py").write_text(FACTORY)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    yield tmp_path
    sys.modules.pop("features_factory", None)


def test_features_on_the_command_line(folder: Path) -> None:
    spec = "python:features_factory:net"
    done = run("features", "a.png", "--model", spec, "--layer", "1", "--layer", "3", "--count", 4, "--json")
    assert done.exit_code == 0, done.output
    first, second = json.loads(done.stdout)["results"]
    assert (first["layer"], first["grid"], first["of"], len(first["channels"])) == ("1", [16, 16], 8, 4)
    strengths = [entry["strength"] for entry in first["channels"]]
    assert strengths == sorted(strengths, reverse=True)
    loaded = cc.models.load(spec)
    maps = feature_maps(loaded.model, "3", loaded.preprocess(Image.open("a.png"))[None]).maps[0]
    best = second["channels"][0]
    np.testing.assert_allclose(best["strength"], np.abs(maps[best["channel"]]).mean(), rtol=1e-5)
    assert Image.open(second["picture"]).format == "PNG"
    assert json.loads(Path("chronocam-out/a.features.1.json").read_text())["model"] == spec
    chosen_ones = run(
        "features", "a.png", "--model", spec, "--layer", "1", "--channel", 6, "--channel", 2, "--json"
    )
    assert {e["channel"] for e in json.loads(chosen_ones.stdout)["results"][0]["channels"]} == {2, 6}
    assert run("features", "a.png", "--model", spec, "--layer", "9").exit_code == 1
    assert run("features", "b.png", "--model", spec, "--layer", "1").exit_code == 1


def test_filters_and_maximise_on_the_command_line(folder: Path) -> None:
    spec = "python:features_factory:net"
    done = run("filters", spec, "--out", "out", "--json")
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["results"]
    assert (result["layer"], result["shape"], len(result["norms"])) == ("0", [8, 3, 3, 3], 8)
    assert Path("out/filters.0.png").is_file()
    options = ("--steps", 8, "--size", 24, "--out", "out", "--json")
    done = run("maximise", spec, "--layer", "3", "--channel", 1, "--channel", 6, *options)
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["results"]
    assert result["shape"] == [3, 24, 24]
    assert all(entry["end"] > entry["start"] and len(entry["curve"]) == 9 for entry in result["channels"])
    assert Image.open(result["picture"]).format == "PNG"
    done = run("maximise", spec, "--channel", "../dog", *options)
    assert json.loads(done.stdout)["results"][0]["channels"][0]["name"] == "../dog"
    assert Path("out/maximise.output.1.png").is_file()
    assert run("maximise", spec, "--channel", "gnu").exit_code == 1
    refused = run("maximise", "chronocam:odometry", "--layer", "pose.conv1", "--channel", 0)
    assert refused.exit_code == 1
    assert "take several frames" in refused.stderr
