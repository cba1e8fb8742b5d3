"""Inputs that a PyTorch model does not take: one line of what it got and what it said, and the error."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from helpers import one_line, seeded
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import InputError


class Sized(nn.Module):
    """Takes pictures of 16 × 16 only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.head = nn.Linear(4 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(x).relu().flatten(1))
        return logits


class Reshaped(Sized):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(x).relu().view(-1, 4 * 64))
        return logits.view(-1, 4, 5).mean(1)


class Asserting(Sized):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == 16, f"width {x.shape[-1]} is not 16\n(see the paper)"
        return super().forward(x)


class Two(Sized):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Linear(3, 5)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        logits: Tensor = super().forward(image) + self.numbers(numbers)
        return logits


class OneDict(Two):
    def forward(self, sample: Mapping[str, Tensor]) -> Tensor:
        return super().forward(sample["image"], sample["numbers"])


PICTURE, LARGE, NUMBERS = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 24, 24), torch.rand(2, 3)
MISFITS: dict[str, tuple[Any, Any, type[Exception], tuple[str, ...]]] = {
    "size": (Sized, LARGE, RuntimeError, ("float32 (…, 3, 24, 24)", "RuntimeError: mat1 and mat2")),
    "size, told by the model": (Asserting, LARGE, AssertionError, ("AssertionError: width 24 is not 16",)),
    "too small": (lambda: nn.Conv2d(3, 4, 7), PICTURE[..., :5], RuntimeError, ("(…, 3, 16, 5)", "Kernel")),
    "rows that are frames": (Reshaped, PICTURE, RuntimeError, ("frames= says how many",)),
    "one of two": (Two, PICTURE, TypeError, ("fails on 1 inputs", "expected `image`, `numbers`", "a tuple")),
    "three of two": (Two, (PICTURE, NUMBERS, NUMBERS), TypeError, ("on 3 inputs", "`image`, `numbers`")),
    "two of one": (Sized, (PICTURE, NUMBERS), TypeError, ("fails on 2 inputs", "expected `x`")),
    "swapped": (Two, (NUMBERS, PICTURE), RuntimeError, ("float32 (…, 3), float32 (…, 3, 16, 16)",)),
    "width of the second": (Two, (PICTURE, NUMBERS[:, :2]), RuntimeError, ("float32 (…, 2)", "RuntimeError")),
    "type of the second": (Two, (PICTURE, NUMBERS.long()), RuntimeError, ("int64 (…, 3)", "dtype")),
    "a name missing": (Two, {"image": PICTURE}, TypeError, ("names `image` ", "expected `image`, `numbers`")),
    "another name": (Two, {"image": PICTURE, "n": NUMBERS}, TypeError, ("`image`, `n` ", "`numbers`")),
    "a key missing": (OneDict, {"image": PICTURE}, KeyError, ("names `image` ", "expected 'numbers' among")),
    "no dict": (OneDict, PICTURE, IndexError, ("IndexError", "float32 (…, 3, 16, 16)")),
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # PyTorch's, of a tensor indexed by a name
@pytest.mark.parametrize("layer", ["conv", None])
@pytest.mark.parametrize("case", MISFITS)
def test_misfits_are_told_in_one_line(case: str, layer: str | None) -> None:
    make, inputs, kind, words = MISFITS[case]
    net = seeded(make)
    if isinstance(net, nn.Conv2d):
        net = nn.Sequential()
        net.conv, net.pool, net.flat = seeded(make), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    with pytest.raises(InputError) as error:
        cc.GradCAM(net, layer).explain(inputs, 1)
    one_line(error, "the model fails on ", "expected ", *words)
    assert type(error.value.__cause__) is kind


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (PICTURE.to("meta"), ("meta device",)),
        (
            torch.nested.nested_tensor([PICTURE[0], PICTURE[1]], layout=torch.jagged),
            ("nested tensor", "inputs.unbind()"),
        ),
        (torch.complex(PICTURE, PICTURE), ("complex64", "inputs.abs()")),
        (PICTURE.to_sparse(), ("sparse", "to_dense()")),
    ],
    ids=["meta", "nested", "complex", "sparse"],
)
def test_tensors_without_plain_numbers_are_refused(inputs: Tensor, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as error:
        cc.GradCAM(seeded(Sized)).explain(inputs, 1)
    one_line(error, "inputs are ", *words)


def test_a_full_device_stays_what_it_is() -> None:
    class Full(Sized):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        cc.GradCAM(Full(), "conv").explain(PICTURE, 1)
