"""Batches of clips, in an order and with changes that depend on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset, Sampler

from chronocam.errors import ChronocamError
from chronocam.lab.train.augment import Change
from chronocam.lab.train.clips import ClipSource

Batch: TypeAlias = tuple[UInt8[Tensor, "batch time height width 3"], Int[Tensor, "batch"], list[str]]
"""Clips, the numbers of their classes, and the names of those that cannot be read."""

_Sample: TypeAlias = tuple[Tensor, int] | str


def loader(
    clips: ClipSource, batch_size: int, workers: int, order: Shuffled | None = None
) -> DataLoader[Any]:
    """Return batches of clips, in their order or another one."""
    return DataLoader(
        _ClipDataset(clips), batch_size, sampler=order, num_workers=workers, collate_fn=_collate
    )


class Shuffled(Sampler[int]):
    """An order that depends on the seed and the epoch: a resumed run continues as if it had not stopped.

    count: how many clips there are, and how many an epoch shows.
    more: how many clips come after those.
    early: how many of the first epochs show only clips after the first `count`, repeated as needed.
    """

    def __init__(self, count: int, seed: int, more: int = 0, early: int = 0) -> None:
        self.count = count
        self.seed = seed
        self.more = more
        self.early = early
        self.epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch))
        if self.epoch >= self.early:
            return iter(torch.randperm(self.count, generator=generator).tolist())
        # There are fewer early clips than an epoch has: they come round again, each round in a new order.
        rounds = [torch.randperm(self.more, generator=generator) for _ in range(-(-self.count // self.more))]
        return iter((self.count + torch.cat(rounds)[: self.count]).tolist())


def mixed(seed: int, number: int) -> int:
    """Return one seed for the `number`-th of many uses of `seed`."""
    return (seed * 1_000_003 + number) % 2**63


class _ClipDataset(Dataset[_Sample]):
    def __init__(self, clips: ClipSource) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> _Sample:
        """Return a clip and its class, or only its name if unreadable: one bad file must not end a run."""
        try:
            return torch.tensor(self.clips.pixels(index)), self.clips.label(index)
        except ChronocamError:
            return self.clips.name(index)


def _collate(samples: list[_Sample]) -> Batch:
    good = [sample for sample in samples if not isinstance(sample, str)]
    pixels = (
        torch.stack([clip for clip, _ in good]) if good else torch.zeros((0, 1, 1, 1, 3), dtype=torch.uint8)
    )
    names = [sample for sample in samples if isinstance(sample, str)]
    return pixels, torch.tensor([label for _, label in good], dtype=torch.int64), names


def unit(pixels: UInt8[Tensor, "batch time height width 3"]) -> Float[Tensor, "batch time 3 height width"]:
    """Return RGB in [0, 1] with the channels before the rows.

    In memory the channels of a pixel stay together: convolutions are a quarter faster so on a CPU.
    """
    return (pixels / 255).permute(0, 1, 4, 2, 3)


def augment(
    pixels: UInt8[Tensor, "batch time height width 3"], crop: float, flip: bool
) -> Float[Tensor, "batch time 3 height width"]:
    """Return clips as `unit` does, each cut, mirrored and lit at random, all of its frames in the same way.

    Gains of 0.8 to 1.2 change brightness and contrast.

    crop: smallest share of the sides that is kept and enlarged to the whole.
    flip: mirror half of the clips.
    """
    return made_of(pixels, _drawn(len(pixels), crop, flip))


def made_of(
    pixels: UInt8[Tensor, "batch time height width 3"], changes: list[Change]
) -> Float[Tensor, "batch time 3 height width"]:
    """Return clips as `unit` does, each with its change."""
    result = torch.empty(pixels.shape, device=pixels.device).permute(0, 1, 4, 2, 3)
    size = (pixels.shape[2], pixels.shape[3])
    # one at a time stays in the cache
    for index, (clip, change) in enumerate(zip(pixels, changes, strict=True)):
        window = change.window(clip)
        window = window.flip(2) if change.mirrored else window
        enlarged = interpolate(window.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
        mean = enlarged.mean()
        enlarged.sub_(mean).mul_(change.contrast / 255).add_(mean * (change.light / 255))
        result[index] = enlarged.clamp_(0, 1)
    return result


def _drawn(count: int, crop: float, flip: bool) -> list[Change]:
    """Draw changes from PyTorch's generator, which the modules seed at every step."""
    shares, lights, contrasts = (
        _between(low, high, count) for low, high in ((crop, 1), (0.8, 1.2), (0.8, 1.2))
    )
    places, mirrored = torch.rand(count, 2).tolist(), (torch.rand(count) < 0.5).tolist()
    rows = zip(shares, places, mirrored, lights, contrasts, strict=True)
    return [
        Change(share, place, flip and mirror, light, contrast)
        for share, place, mirror, light, contrast in rows
    ]


def _between(low: float, high: float, count: int) -> list[float]:
    values: list[float] = (low + (high - low) * torch.rand(count)).tolist()
    return values
