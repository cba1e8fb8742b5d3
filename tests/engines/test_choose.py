"""What is no model is refused in one line, with what its giver may have meant."""

from functools import partial
from typing import Any

import pytest
import torch
from helpers import one_line, seeded
from torch import nn
from torch.utils.data import TensorDataset

import chronocam as cc
from chronocam.errors import InputError, ModelError


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        )


def net() -> nn.Module:
    return seeded(Net)


NO_MODELS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "name": ("resnet18", ("a str, `resnet18`", "cc.models.load('resnet18')")),
    "class": (Net, ("a class", "Net(…)")),
    "function": (net, ("a function", "net(…)", "cc.blackbox(f)")),
    "weights": (net().state_dict(), ("load_state_dict(weights)",)),
    "object": (object(), ("an object", "torch.nn.Module")),
    "partial": (partial(net), ("a functools.partial", "torch.nn.Module")),
}


@pytest.mark.parametrize(("given", "words"), NO_MODELS.values(), ids=NO_MODELS)
def test_what_is_no_model_says_how_to_get_one(given: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as error:
        cc.GradCAM(given)
    one_line(error, "cannot explain", *words)


def test_a_data_set_is_told_what_to_do() -> None:
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match=r"TensorDataset.*DataLoader"):
        cc.GradCAM(net()).explain(TensorDataset(x, torch.arange(2)))
