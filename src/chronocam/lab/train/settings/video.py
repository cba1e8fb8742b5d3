"""What a training run is told."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from chronocam.errors import InputError, suggest

GESTURES: Final = "gestures"
"""Stands for the rendered gesture world where a folder of clips is expected."""

PUBLISHED: Final = "published"
"""Stands for the weights that a library offers, where a file of weights is expected."""

PRECISIONS: Final = ("32-true", "16-mixed", "bf16-mixed")

_PLACES: Final = ("accelerator", "workers", "cache", "resume")  # change where and how fast, not what


@dataclass(frozen=True)
class VideoSettings:
    """How a network for clips is trained; the result depends on nothing else but the data and the machine.

    data: a folder of clips (see `chronocam.train.folders`), or `gestures`.
    arch: `r3d`, `cnn-lstm`, `cnn-lstm-attention` or `cnn-lstm-steps`, which gives logits after every frame
        and learns from clips that lie end to end, two and two. backbone: a network of torchvision or `small`;
        None for the architecture's usual one. hidden: size of the LSTM's state.
    weights: to start from: a file, or `published` for torchvision's; None for random ones.
    epochs, batch_size, lr, weight_decay: of AdamW; the rate rises over a tenth of the steps and falls to 0
        (cosine).
    head_lr: how many times faster the layers after the backbone learn, as new ones may beside published
        weights.
    change_first: share of the steps in which an LSTM is shown less and less the change of the features alone:
        at first without their mean over the clip, which tells clips apart by all that does not move; 0 for
        never.
    calm_epochs: epochs at the beginning that show gestures without shake, noise, changing light and
        passers-by.
    frames, sampling: how clips are read, see `read_clip`. size: height and width in pixels; None for the
        backbone's.
    crop: smallest share of the frame's sides that a training clip shows, cut at random; 1 shows it all.
    flip: show half of the training clips mirrored; leave out where left and right are what classes differ in.
    clips, held_out: at most so many clips to train and to measure on (half as many to validate on); None for
        all, and for 8,000 and 1,000 gestures. split: which split file of several. seed: of weights, order,
        augmentation.
    patience: epochs without a better validation loss after which to stop; None to never stop early.
    cache: a folder where clips are kept decoded; None decodes them in every epoch.
    """

    data: str
    arch: str
    out: Path
    backbone: str | None = None
    weights: str | None = None
    hidden: int = 64
    epochs: int = 20
    batch_size: int = 16
    lr: float | int = 5e-4
    head_lr: float | int = 1
    change_first: float | int = 0.5
    calm_epochs: int = 0
    weight_decay: float | int = 0.02
    frames: int = 16
    size: int | None = None
    sampling: str = "uniform"
    crop: float | int = 0.8
    flip: bool = True
    clips: int | None = None
    held_out: int | None = None
    split: int = 1
    seed: int = 0
    patience: int | None = None
    precision: str = "32-true"
    threads: int | None = None
    accelerator: str = "auto"
    workers: int = 0
    cache: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        insist(self, _LEAST, ("lr", "head_lr"), {"precision": PRECISIONS})
        if self.calm_epochs and self.data != GESTURES:
            raise InputError(
                f"calm_epochs is {self.calm_epochs} for `{self.data}`, expected 0: only gestures are calm"
            )
        if not 0 <= self.change_first <= 1:
            raise InputError(f"change_first is {self.change_first}, expected a share of the steps, 0 to 1")
        if not 0 < self.crop <= 1:
            raise InputError(
                f"crop is {self.crop}, expected a share above 0 and at most 1; 1 shows whole frames"
            )

    def command(self) -> str:
        """Return the command line that does this again, whatever the defaults will be."""
        return command_of("video", self)


def insist(
    settings: Any,
    least: Mapping[str, float | int],
    positive: Sequence[str],
    choices: Mapping[str, Sequence[str]],
) -> None:
    """Raise InputError for a setting below its least value, one that is not positive, or none of the choices.

    None stands for a default that is known later, and fits everywhere.
    """
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    for name, limit in least.items():
        if given[name] is not None and not given[name] >= limit:
            raise InputError(f"{name} is {given[name]}, expected at least {limit}; pass {limit} or more")
    for name in positive:
        if not given[name] > 0:
            raise InputError(f"{name} is {given[name]}, expected more than 0; the usual is the default")
    for name, known in choices.items():
        if given[name] is not None and given[name] not in known:
            hint = suggest(given[name], list(known))
            raise InputError(f"{name} is `{given[name]}`, expected one of {', '.join(known)}{hint}")


def command_of(what: str, settings: Any) -> str:
    """Return the command line `chronocam train WHAT` with all settings, but for those that say where and how fast."""
    words = ["chronocam", "train", what]
    for field in fields(settings):
        value, option = getattr(settings, field.name), field.name.replace("_", "-")
        if value is None or field.name in _PLACES:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


_LEAST: Final = {
    "hidden": 1,
    "epochs": 1,
    "batch_size": 2,
    "calm_epochs": 0,
    "weight_decay": 0,
    "frames": 1,
    "size": 8,
    "clips": 1,
    "held_out": 2,
    "split": 1,
    "seed": 0,
    "patience": 1,
    "threads": 1,
    "workers": 0,
}
