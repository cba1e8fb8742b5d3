"""Clips that a model takes as pictures: frames as rows of the batch, or stacked in the channels."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import close, one_line, seeded
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import chronocam as cc
from chronocam.errors import InputError, LayerError, LayoutError, TargetError

FRAMES = 4


class Segments(nn.Module):
    """Frames are rows, and the consensus is the mean of their logits, as in temporal segment networks."""

    frames = FRAMES

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 4, 2)
        self.head = nn.Linear(8, 5)

    def features(self, x: Tensor) -> Tensor:
        activations: Tensor = self.conv(x).relu()
        return activations

    def consensus(self, features: Tensor) -> Tensor:
        mixed = features.view(-1, self.frames, *features.shape[1:]).cumsum(1).tanh()
        logits: Tensor = self.head(mixed.mean((1, 3, 4)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.consensus(self.features(x))


class Stacked(Segments):
    """The same of clips whose frames are stacked in the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1, 3, *x.shape[2:]))


class OfThree(Segments):
    """As many frames as channels: shapes alone do not say where the frames are."""

    frames = 3


class StackedOfThree(Stacked):
    frames = 3


CLIPS = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
ROWS, CHANNELS = CLIPS.flatten(0, 1), CLIPS.flatten(1, 2)


def by_hand(net: Any, clips: Tensor, classes: list[int]) -> np.ndarray:
    """Return Grad-CAM at what the convolution returns, weights frame by frame: (clip, time, h, w)."""
    outputs: list[Tensor] = []
    handle = net.conv.register_forward_hook(lambda module, args, output: outputs.append(output))
    scores = net.consensus(net.features(clips.flatten(0, 1)))
    handle.remove()
    total = scores[torch.arange(len(clips)), torch.tensor(classes)].sum()
    (gradient,) = torch.autograd.grad(total, outputs[0])
    maps = (gradient.mean((2, 3), keepdim=True) * outputs[0]).sum(1).detach().numpy()
    return np.asarray(maps.reshape(*clips.shape[:2], *maps.shape[1:]))


@pytest.mark.parametrize(
    ("make", "inputs"), [(Segments, ROWS), (Stacked, CHANNELS), (Stacked, ROWS), (Segments, CLIPS)]
)
@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"conv_layer": "conv"}])
def test_maps_of_frames_given_as_pictures(make: Any, inputs: Tensor, options: dict[str, Any]) -> None:
    net = seeded(make)
    result = cc.GradCAM(net, signed=True, frames=FRAMES, **options).explain(inputs, [1, 3])
    assert (result.layer, result.input_size, result.frame_spans[:2]) == (
        "conv",
        (4, 32, 32),
        ((0, 0), (1, 1)),
    )
    close(result.maps[:, 0], by_hand(net, CLIPS, [1, 3]), 1e-5)
    expected = net(inputs.flatten(0, 1) if inputs.ndim == 5 else inputs)
    close(result.scores[:, 0], expected.detach()[[0, 1], [1, 3]], 1e-6)
    assert result.overlay(inputs)[1][0].shape == (4, 32, 32, 3)


def test_where_the_frames_are_is_found_by_running_the_model() -> None:
    clips = CLIPS[:, :3].repeat(3, 1, 1, 1, 1)  # 18 rows of 3 channels, or 6 of 9, in clips of 3 frames
    for make, inputs in ((OfThree, clips.flatten(0, 1)), (StackedOfThree, clips.flatten(1, 2))):
        net = seeded(make)
        result = cc.GradCAM(net, signed=True, frames=3).explain(inputs, 2)
        close(result.maps[:, 0], by_hand(net, clips, [2] * 6), 1e-5)


def test_gradients_at_the_input_are_of_clips() -> None:
    net, x = seeded(Stacked), CHANNELS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[:, 2].sum(), x)
    result = cc.Saliency(net, frames=FRAMES).explain(CHANNELS, 2)
    close(result.maps[:, 0], gradient.view(CLIPS.shape).abs().amax(2), 1e-5)


def test_data_sets_several_methods_and_receptive_fields() -> None:
    net, labels = seeded(Segments), torch.tensor([1, 3])
    loader = DataLoader(TensorDataset(CLIPS, labels), 1, collate_fn=lambda some: (some[0][0], [some[0][1]]))
    expected = cc.GradCAM(net, frames=FRAMES).explain(ROWS, labels)
    np.testing.assert_array_equal(cc.GradCAM(net, frames=FRAMES).explain(loader).maps, expected.maps)
    every = cc.explain(net, ROWS, labels, methods=["gradcam", "saliency"], frames=FRAMES)
    np.testing.assert_array_equal(every["gradcam"].maps, expected.maps)
    assert every["saliency"].maps.shape == (2, 1, 4, 32, 32)
    aligned = cc.GradCAM(net, frames=FRAMES, align="receptive_field").explain(ROWS, labels)
    assert aligned.centers is not None
    assert aligned.centers[0] == (0, 1, 2, 3)
    assert aligned.centers[1][:2] == (0, 4)


def test_an_operator_gets_what_the_model_takes() -> None:
    shapes: list[tuple[int, ...]] = []

    def operator(model: Any, inputs: Tensor, targets: Any) -> Tensor:
        shapes.append(tuple(inputs.shape))
        return model(inputs)[:, 1]

    result = cc.GradCAM(seeded(Segments), frames=FRAMES, operator=operator, signed=True).explain(ROWS)
    close(result.maps[:, 0], by_hand(seeded(Segments), CLIPS, [1, 1]), 1e-5)
    assert shapes[-1] == (8, 3, 32, 32)


def test_frames_that_do_not_fit_are_refused() -> None:
    net = seeded(Segments)
    for frames, inputs, words in (
        (7, ROWS, ("neither the 8 rows", "nor their 3 channels")),
        (3, CLIPS, ("frames=3", "(2, 4, 3, 32, 32)")),
        (4, torch.rand(2, 12), ("frames=4", "(2, 12)")),
    ):
        with pytest.raises(InputError) as error:
            cc.GradCAM(net, frames=frames).explain(inputs, 1)
        one_line(error, *words)
    with pytest.raises(InputError) as error:
        cc.GradCAM(net, frames=0)
    one_line(error, "frames is 0")
    with pytest.raises(InputError) as error:
        cc.GradCAM(net, frames=4, chunk_frames=2)
    one_line(error, "chunk_frames=", "leave it out")


def test_frames_that_are_mixed_at_once_have_no_time() -> None:
    early = seeded(lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(InputError) as error:
        cc.GradCAM(early, frames=4).explain(torch.rand(2, 4, 32, 32), 1)
    one_line(error, "all 4 channels at once", "leave frames= out")


def test_fewer_rows_than_samples_ask_for_frames() -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded(Segments), "conv").explain(ROWS, 1)
    one_line(error, "2 rows for 8 samples", "frames=4")


@pytest.mark.parametrize("frames", [4, 9])
def test_frames_in_the_channels_are_no_patches_of_a_picture(frames: int) -> None:
    net = seeded(Stacked)
    net.frames = frames
    x = torch.rand(2, 3 * frames, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(LayerError, match=rf"the {3 * frames} channels .* {frames} frames, frames={frames}"):
        cc.GradCAM(net).explain(x, 1)
    with pytest.raises(LayoutError, match=r"do not follow the places of the input|no grid that fits"):
        cc.GradCAM(net, "conv").explain(x, 1)
