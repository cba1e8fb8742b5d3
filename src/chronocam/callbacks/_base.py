"""What the callbacks share: fixed samples, and pictures of their maps each epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeVar, cast

import numpy as np
from jaxtyping import UInt8

from chronocam.errors import ChronocamError, check_whole
from chronocam.explanation import Explanation
from chronocam.methods import Method
from chronocam.methods._base import method_named
from chronocam.types import Inputs

_FRAMES: Final = 8  # of a clip, side by side
_C = TypeVar("_C")


@dataclass(frozen=True, eq=False)
class Picture:
    """A sample with its maps, those of several targets side by side.

    tag: what it is called in every epoch.
    caption: each target and its score, and what is wrong with their maps.
    """

    tag: str
    caption: str
    pixels: UInt8[np.ndarray, "height width 3"]


class MapCallback:
    """A callback of a framework that is imported when the callback is made.

    Instances are of the framework's own `Callback` class too.
    """

    _plain: ClassVar[type]

    def __new__(cls, *_arguments: Any, **_options: Any) -> Self:
        """Make an instance of this class and of the framework's."""
        both: Any = _joined(cast(type, cls), cls._framework())
        return object.__new__(both)

    def __init__(
        self,
        samples: Inputs,
        targets: Any = None,
        *,
        method: str | Callable[..., Method] = "gradcam",
        labels: Sequence[str] | None = None,
        preprocess: Callable[[Any], Any] | None = None,
        every_n_epochs: int = 1,
        tag: str | None = None,
        log_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_whole("every_n_epochs", every_n_epochs, "a number of epochs, at least 1")
        self.samples = samples
        self.targets = targets
        self.method = method_named(method) if isinstance(method, str) else method
        self.every_n_epochs = every_n_epochs
        self.tag = tag
        self.log_dir = log_dir
        self.options = {"labels": labels, "preprocess": preprocess, **options}
        self._bound: Method | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self._plain,), vars(self)

    @staticmethod
    def _framework() -> type:
        """Return the framework's class of callbacks."""
        raise NotImplementedError

    def _bind(self, model: Any) -> None:
        """Bind the method to the model, and try it: what does not fit is reported before the first epoch."""
        self._bound = self.method(model, **self.options)
        self._drawn(self._bound)

    def _pictures(self, epoch: int) -> list[Picture]:
        """Return the pictures of an epoch; none between those that are asked for."""
        if self._bound is None or (epoch + 1) % self.every_n_epochs:
            return []
        return self._drawn(self._bound)

    def _drawn(self, method: Method) -> list[Picture]:
        explanation = method.explain(self.samples, self.targets)
        tag = self.tag or explanation.method
        return [
            Picture(f"{tag}/{sample}", _caption(explanation, sample), np.hstack([_flat(one) for one in row]))
            for sample, row in enumerate(explanation.overlay(self.samples))
        ]


@contextmanager
def warned(epoch: int) -> Iterator[None]:
    """Make an error a warning: a training is worth more than its pictures."""
    try:
        yield
    except ChronocamError as error:
        warnings.warn(f"no maps of epoch {epoch}: {error}", stacklevel=3)


def _caption(explanation: Explanation, sample: int) -> str:
    pairs = zip(explanation.targets[sample], explanation.scores[sample], strict=True)
    # What is wrong with a map, such as why it is blank.
    wrong = [finding.text for finding in explanation.findings if finding.sample == sample]
    return " | ".join([*(f"{info} {score:.3g}" for info, score in pairs), *wrong])


def _flat(drawn: np.ndarray) -> np.ndarray:
    """Return a picture: of the frames of a clip, some side by side, evenly chosen."""
    if drawn.ndim == 3:
        return drawn
    places = np.rint(np.linspace(0, len(drawn) - 1, min(_FRAMES, len(drawn)))).astype(int)
    return np.hstack(list(drawn[places]))


@cache
def _joined(cls: type, base: type) -> type:
    """Return a class that is both, under the name of the first."""
    names = {"__module__": cls.__module__, "__doc__": cls.__doc__, "_plain": cls}
    return type(cls.__name__, (cls, base), names)


def _blank(cls: type[_C]) -> _C:
    """Return an instance to be filled, when one is read from a pickle."""
    return cls.__new__(cls)
