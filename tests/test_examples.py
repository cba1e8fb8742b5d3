"""Every public class and function shows how it is called, and what it shows is what comes out.

An example stands in the docstring under `Example:`, in doctest form and at most five lines long. It finds
`cc`, `np`, `torch`, `nn`, `Path` and the objects of `namespace` ready, in an empty folder.
"""

import doctest
import inspect
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from torch import nn

import chronocam as cc

LONGEST = 5

# The example of a callback of Keras imports it: on PyTorch, which is there already.
os.environ.setdefault("KERAS_BACKEND", "torch")


def modules(module: ModuleType = cc) -> Iterator[ModuleType]:
    """Yield `module` and the public modules in it, by their `__all__`."""
    yield module
    for name in getattr(module, "__all__", ()):
        inner = getattr(module, name)
        if isinstance(inner, ModuleType):
            yield from modules(inner)


def public(module: ModuleType) -> dict[str, Any]:
    """Return the public classes and functions of a module by name."""
    named = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {
        name: thing
        for name, thing in named.items()
        if thing is not Any and (inspect.isclass(thing) or inspect.isroutine(thing))
    }


def examples(thing: Any, name: str) -> list[doctest.DocTest]:
    """Return the examples of a class with those of its methods, or of a function."""
    found = doctest.DocTestFinder(exclude_empty=True).find(thing, name, globs={})
    return [test for test in found if test.examples]


class Classifier(nn.Module):
    """An LSTM that classifies a sequence by its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc(self.lstm(features)[0][:, -1])


def small(conv: type[nn.Module], pool: nn.Module) -> nn.Module:
    """Return a network for three classes: conv1, relu1, conv2, relu2, pool, flatten, fc."""
    layers = {
        "conv1": conv(3, 8, 3, padding=1, stride=2),
        "relu1": nn.ReLU(),
        "conv2": conv(8, 6, 3, padding=1, stride=2),
        "relu2": nn.ReLU(),
        "pool": pool,
        "flatten": nn.Flatten(),
        "fc": nn.Linear(6, 3),
    }
    return nn.Sequential(OrderedDict(layers)).eval()


def namespace() -> dict[str, Any]:
    """Return what the examples find: small networks with random weights, and inputs for them."""
    torch.manual_seed(0)
    model = small(nn.Conv2d, nn.AdaptiveAvgPool2d(1))
    model.labels = ["cat", "dog", "bird"]
    return {
        "__name__": "__main__",
        "cc": cc,
        "np": np,
        "Path": Path,
        "torch": torch,
        "nn": nn,
        "model": model,
        "images": torch.rand(2, 3, 32, 32),
        "clip_model": small(nn.Conv3d, nn.AdaptiveAvgPool3d(1)),
        "clips": torch.rand(1, 3, 8, 32, 32),
        "rnn": Classifier().eval(),
        "features": torch.rand(1, 6, 4),
        "detector": Spots().eval(),
        "photos": two_spots(),
    }


def everything() -> Iterator[Any]:
    seen: set[int] = set()
    for module in modules():
        for name, thing in public(module).items():
            if id(thing) not in seen and examples(thing, name):
                seen.add(id(thing))
                yield pytest.param(thing, id=f"{module.__name__}.{name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("thing", list(everything()))
def test_an_example_gives_what_it_shows(thing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for test in examples(thing, thing.__name__):
            report: list[str] = []
            test.globs = namespace()
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            runner.run(test, out=report.append)
            assert not runner.failures, "".join(report)
            lines = sum(len(example.source.splitlines()) for example in test.examples)
            assert lines <= LONGEST, f"the example of {test.name} has {lines} lines"
            assert "Example:\n" in (test.docstring or ""), f"no heading over the example of {test.name}"
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("module", [pytest.param(m, id=m.__name__) for m in modules()])
def test_every_public_class_and_function_has_an_example(module: ModuleType) -> None:
    without = [name for name, thing in public(module).items() if not has_one(thing)]
    assert not without, f"no example in {', '.join(without)}"


def has_one(thing: Any) -> bool:
    return ">>> " in (thing.__doc__ or "")


def test_a_wrong_example_is_noticed() -> None:
    def wrong() -> None:
        """Add.

        Example:
        >>> 1 + 1
        3
        """

    runner = doctest.DocTestRunner(verbose=False)
    for test in examples(wrong, "wrong"):
        runner.run(test, out=lambda _: None)
    assert runner.failures == 1
