"""Train the bundled network `chronocam:digits` on generated scenes, and measure it on held-out ones.

The first steps show close-ups of one digit at a time: averaged over a whole scene, a digit is too faint a
signal to start from (the loss stays at chance for hundreds of steps). The others show whole scenes, with
labels that say which digits are there, not where.

Run from anywhere: python -m chronocam.lab.train.digits
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save
from sklearn.metrics import average_precision_score
from torch import nn

from chronocam.lab.data.digits import Scenes, scenes
from chronocam.lab.models.digits import MEAN, STD, DigitsNet, digits_net
from chronocam.lab.train.run import STDERR
from chronocam.media.files import replace_file
from chronocam.runs.terminal import put_json, say

WEIGHTS = Path(str(files("chronocam.lab"))) / "weights" / "digits.safetensors"
SIDE = 48
"""Height and width of a close-up, in pixels: half a scene."""


@dataclass(frozen=True)
class DigitsSettings:
    """What the command's options say."""

    seed: int
    close_ups: int
    steps: int
    batch: int
    rate: float
    held_out: int
    threads: int


@click.command(context_settings={"show_default": True})
@click.option("--seed", default=0, help="Seeds the weights and the scenes.")
@click.option("--close-ups", default=800, help="Steps on close-ups.")
@click.option("--steps", default=1300, help="Steps on whole scenes, after those on close-ups.")
@click.option("--batch", default=64, help="Training scenes in a step, all of them new.")
@click.option("--rate", default=4e-3, help="Highest learning rate.")
@click.option("--held-out", default=2000, help="Scenes to measure on.")
@click.option("--threads", default=1, help="CPU threads.")
@click.option("--out", default=WEIGHTS, type=click.Path(path_type=Path), help="Weights; figures go beside.")
def main(out: Path, **options: Any) -> None:
    """Train, measure on held-out scenes, and write the weights and the figures."""
    settings = DigitsSettings(**options)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    begin = time.perf_counter()
    network = train(digits_net(), settings)
    minutes = round((time.perf_counter() - begin) / 60, 1)
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
    record = {"command": f"python -m chronocam.lab.train.digits {words}", "seed": settings.seed}
    record |= {"torch": torch.__version__, "training minutes": minutes}
    write(network, record | measure(network, scenes(settings.held_out, split="test")), out)


def lessons(settings: DigitsSettings) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of training scenes, never shown before, and which digits they hold."""
    rng = np.random.default_rng(settings.seed)
    for step in range(settings.close_ups + settings.steps):
        world = scenes(settings.batch, seed=int(rng.integers(2**32)), split="train")
        if step < settings.close_ups:
            images, truth = look_closer(world, rng)
        else:
            images, truth = world.images, present(world.labels)
        yield prepare(images), torch.from_numpy(truth).float()


def look_closer(world: Scenes, rng: np.random.Generator, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Cut a window around each digit, a little off centre.

    A digit counts where half of its ink is visible.
    """
    windows, truth = [], []
    for image, labels, masks in zip(world.images, world.labels, world.masks, strict=True):
        for mask in masks:
            corner = np.argwhere(mask).mean(axis=0) + rng.uniform(-6, 6, 2) - SIDE / 2
            top, left = np.clip(corner, 0, len(image) - SIDE).astype(int)
            rows, columns = slice(top, top + SIDE), slice(left, left + SIDE)
            visible = 2 * masks[:, rows, columns].sum(axis=(1, 2)) > masks.sum(axis=(1, 2))
            windows.append(image[rows, columns])
            truth.append(np.isin(range(classes), labels[visible]))
    return np.stack(windows), np.stack(truth)


def prepare(images: np.ndarray) -> torch.Tensor:
    """Turn pictures `(batch, height, width, 3)`, 0 to 255, into the network's input."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)


def present(labels: np.ndarray, classes: int = 10) -> np.ndarray:
    """Turn the two digits of each scene into ten answers: is this digit there? `(batch, 10)`."""
    return np.eye(classes, dtype=bool)[labels].any(axis=1)


def train(network: DigitsNet, settings: DigitsSettings) -> DigitsNet:
    """Minimise the binary cross-entropy of the ten logits (AdamW, one cycle); return the net in eval mode."""
    network.train().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    parts = [{"params": part.parameters()} for part in (network.features, network.classifier)]
    optimiser = torch.optim.AdamW(parts, weight_decay=0.02)
    rates = [settings.rate, 5 * settings.rate]  # weights that follow an average must grow larger
    steps = settings.close_ups + settings.steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, steps, pct_start=0.2)
    progress = track(lessons(settings), "training", steps, console=STDERR)
    for step, (images, truth) in enumerate(progress, 1):
        with torch.autocast("cpu", torch.bfloat16):  # two to three times faster where the CPU has it
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), truth)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            say(f"step {step}: loss {loss.item():.3f}")
    return network.eval().to(memory_format=torch.contiguous_format)


@torch.inference_mode()
def measure(network: nn.Module, held_out: Scenes) -> dict[str, object]:
    """Compare the two highest logits of every scene with its two digits."""
    logits = np.concatenate([network(part) for part in torch.split(prepare(held_out.images), 100)])
    truth = present(held_out.labels)
    answers = present(np.argsort(logits, axis=1)[:, -2:])
    recall = (answers & truth).sum(axis=0) / truth.sum(axis=0)
    precision = average_precision_score(truth, logits, average="macro")
    return {
        "held-out scenes": len(truth),
        "both digits right": round(float((answers == truth).all(axis=1).mean()), 4),
        "recall": round(float(recall.mean()), 4),
        "recall by digit": [round(float(value), 3) for value in recall],
        "mean average precision": round(float(precision), 4),
    }


def write(network: nn.Module, record: dict[str, object], path: Path) -> None:
    """Write the weights, with the record in their metadata, and the record beside them."""
    text = json.dumps(record, indent=2) + "\n"
    metadata = {name: str(value) for name, value in record.items()}
    weights = save(network.state_dict(), metadata)
    replace_file(path, lambda temporary: temporary.write_bytes(weights))
    replace_file(path.with_suffix(".json"), lambda temporary: temporary.write_text(text, encoding="utf-8"))
    put_json(record)


if __name__ == "__main__":
    main()
