"""What is said of a setting, once: command line, checks and documentation all read it from here.

A setting is a field `epochs: Annotated[int, TrainOption("How often every clip is seen", least=1)] = 20` of a
frozen dataclass that derives from `Settings`.
"""

from __future__ import annotations

import shlex
import types
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from chronocam.errors import InputError, suggest

PUBLISHED: Final = "published"
"""Stands for the weights that a library offers, where a file of weights is expected."""

_PLACES: Final = ("accelerator", "workers", "cache", "resume")  # change where and how fast, not what


@dataclass(frozen=True)
class TrainOption:
    """What is said of one setting. None as a value stands for a default that is known later, and always fits.

    text: what the setting does.
    usual: what None, or no option, stands for, in words.
    least: the smallest value.
    above: values are larger than this.
    most: the largest value.
    hint: what to do about a value out of range; None where the message follows from the limits.
    choices: the only values.
    switch: whether the command line can only turn the setting on.
    rare: whether only the long help shows the setting.
    """

    text: str
    usual: str | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    hint: str | None = None
    choices: Sequence[str] | None = None
    switch: bool = False
    rare: bool = False

    def insist(self, name: str, value: object) -> None:
        """Raise InputError for a value that does not fit."""
        if value is None:
            return
        if self.choices is not None and value not in self.choices:
            close = suggest(str(value), list(self.choices))
            raise InputError(f"{name} is `{value}`, expected one of {', '.join(self.choices)}{close}")
        if isinstance(value, (int, float)) and not self._holds(value):
            raise InputError(f"{name} is {value}, expected {self._range()}")

    def _holds(self, value: float) -> bool:
        """Say whether a number is within the limits; not-a-number is within none."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )

    def _range(self) -> str:
        if self.most is None:
            low = f"at least {self.least}; pass {self.least} or more"
            return low if self.above is None else f"more than {self.above}; the usual is the default"
        low = f"at least {self.least}" if self.above is None else f"above {self.above}"
        return f"a share {low} and at most {self.most}; {self.hint}"


@dataclass(frozen=True)
class Setting:
    """A field of a settings class.

    default: `dataclasses.MISSING` where there is none.
    kind: the type of its value, without None.
    """

    name: str
    option: TrainOption
    kind: type
    default: object

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING


class Settings:
    """Base of the settings of a training run.

    The result depends on nothing else but the data and the machine.
    """

    data: str
    out: Path
    epochs: int
    batch_size: int
    seed: int
    patience: int | None
    precision: str
    threads: int | None
    accelerator: str
    workers: int
    cache: Path | None
    resume: bool

    def __post_init__(self) -> None:
        for setting in settings_of(type(self)):
            setting.option.insist(setting.name, getattr(self, setting.name))
        self.insist()

    def insist(self) -> None:
        """Raise InputError for settings that do not fit each other."""

    def command(self) -> str:
        """Return the command line that does this again, whatever the defaults will be.

        Settings that only say where and how fast to compute are left out.
        """
        words = ["chronocam", "train", self.what()]
        for setting in settings_of(type(self)):
            value, option = getattr(self, setting.name), setting.name.replace("_", "-")
            if value is None or setting.name in _PLACES:
                continue
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                words += [
                    f"--{option}",
                    ",".join(map(str, value)) if isinstance(value, tuple) else str(value),
                ]
        return shlex.join(words)

    def what(self) -> str:
        """Return the command's name after `chronocam train`."""
        raise NotImplementedError(f"{type(self).__name__} must define what()")


def settings_of(cls: type[Settings]) -> Iterator[Setting]:
    """Yield the settings of a class in the order of its fields."""
    hints = get_type_hints(cls, include_extras=True)
    for name in cls.__annotations__:
        kind, option = get_args(hints[name])
        yield Setting(name, option, _without_none(kind), vars(cls).get(name, MISSING))


def _without_none(hint: object) -> type:
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    (kind,) = (part for part in parts if part is not type(None))
    origin: type = get_origin(kind) or kind  # tuple[float, …] counts as tuple
    return origin


# Settings that the kinds share, with what is said of them. Defaults stand in each class.
Weights = Annotated[
    str | None, TrainOption("File of weights to start from, or `published` for the library's", "random")
]
LearningRate = Annotated[
    float,
    TrainOption(
        "Highest learning rate of AdamW: a linear rise over a tenth of the steps, then a cosine to 0", above=0
    ),
]
WeightDecay = Annotated[float, TrainOption("Weight decay of AdamW", least=0, rare=True)]
Seed = Annotated[int, TrainOption("Seed of weights, order, augmentation and held-out data", least=0)]
Patience = Annotated[
    int | None, TrainOption("Epochs without a better validation loss after which to stop", "never", least=1)
]
Precision = Annotated[
    str, TrainOption("Precision of training", choices=("32-true", "16-mixed", "bf16-mixed"), rare=True)
]
Threads = Annotated[int | None, TrainOption("Threads of the CPU", "the library's", least=1, rare=True)]
Accelerator = Annotated[str, TrainOption("Where to compute: cpu, gpu, mps or auto")]
Workers = Annotated[int, TrainOption("Processes that decode the data", least=0, rare=True)]
Cache = Annotated[
    Path | None, TrainOption("Folder to keep decoded frames in", "decode them in every epoch", rare=True)
]
Out = Annotated[Path, TrainOption("Folder of the result")]
Resume = Annotated[bool, TrainOption("Continue the run that was interrupted in OUT", switch=True)]

_Class = TypeVar("_Class", bound=type[Settings])


def documented(cls: _Class) -> _Class:
    """Add what is said of each setting to the docstring of a class."""
    lines = (f"    {setting.name}: {setting.option.text}." for setting in settings_of(cls))
    cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", *lines, "    "])
    return cls
