"""Train the bundled transformers on generated scenes and clips, and measure them on held-out ones.

The convolutions that make tokens are those of `chronocam:digits` and `chronocam:gestures-3d`, which learnt
from the same training scenes and clips; `colours` goes on from `digits-vit`, and all of it learns. So a few
minutes of one core are enough.

Run from anywhere: python -m chronocam.lab.train.transformers digits-vit (gestures-transformer, colours)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from math import isqrt
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torchvision.models import VisionTransformer

from chronocam.lab.data import gestures
from chronocam.lab.data.digits import COLOURS, NUMBERS, Scenes, scenes
from chronocam.lab.models.digits import load_digits_net
from chronocam.lab.models.gestures import load_gesture_net
from chronocam.lab.models.transformers import NETWORKS, ColoursNet, GesturesTransformer, load_transformer
from chronocam.lab.train.digits import look_closer, measure, prepare, present, write
from chronocam.lab.train.figures import accuracy
from chronocam.lab.train.run import STDERR
from chronocam.runs.terminal import say

WEIGHTS = Path(str(files("chronocam.lab"))) / "weights"
CAPTIONS = tuple(f"a {colour} {number}" for colour in COLOURS for number in NUMBERS)
"""Every digit in every ink, ink by ink."""


@dataclass(frozen=True)
class TransformerSettings:
    """What the command's options say."""

    seed: int
    samples: int
    close_ups: int
    steps: int
    batch: int
    rate: float
    held_out: int
    threads: int


@click.command(context_settings={"show_default": True})
@click.argument("name", type=click.Choice(list(NETWORKS)))
@click.option("--seed", default=0, help="Seeds the weights and the data.")
@click.option("--samples", default=4000, help="Training scenes or clips, shown over and over.")
@click.option(
    "--close-ups", default=250, help="Steps on close-ups of digits, before whole scenes; 0 for gestures."
)
@click.option("--steps", default=600, help="Steps on whole scenes or clips.")
@click.option("--batch", default=64, help="Scenes or clips in a step.")
@click.option("--rate", default=2e-3, help="Highest learning rate.")
@click.option("--held-out", default=1000, help="Scenes or clips to measure on.")
@click.option("--threads", default=1, help="CPU threads.")
@click.option(
    "--out", default=WEIGHTS, type=click.Path(path_type=Path), help="Folder of weights and figures."
)
def main(name: str, out: Path, **options: Any) -> None:
    """Train one of the networks, measure it, and write its weights and the figures."""
    settings = TransformerSettings(**options)
    if name == "gestures-transformer" and settings.close_ups:
        raise click.UsageError("gestures-transformer is trained on whole clips only; pass --close-ups 0")
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    begin, network = time.perf_counter(), NETWORKS[name]()
    losses, judge = COURSES[name]
    optimise(network, losses(network, settings), settings)
    minutes = round((time.perf_counter() - begin) / 60, 1)
    words = " ".join(f"--{option.replace('_', '-')} {value}" for option, value in options.items())
    record = {"command": f"python -m chronocam.lab.train.transformers {name} {words}", "seed": settings.seed}
    record |= {"torch": torch.__version__, "training minutes": minutes}
    network.half().float().eval()  # what is measured is what is stored
    record |= judge(network, settings.held_out)
    write(network.half(), record, out / f"{name}.safetensors")


def optimise(network: nn.Module, losses: Iterator[Tensor], settings: TransformerSettings) -> None:
    """Take a step for each loss (AdamW, one cycle)."""
    optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=0.02)
    steps = settings.close_ups + settings.steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, steps, pct_start=0.15)
    for step, loss in enumerate(track(losses, "training", steps, console=STDERR, transient=True), 1):
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            say(f"step {step}: loss {loss.item():.3f}")


def of_digits(network: VisionTransformer, settings: TransformerSettings) -> Iterator[Tensor]:
    """Yield how far a network is from naming the two digits in a scene."""
    stem = begin_as_digits(network).requires_grad_(False)
    world = scenes(settings.samples, seed=settings.seed, split="train")
    for images, truth, rng in lessons(world, world.labels, 10, settings):
        with torch.no_grad():
            features = in_half(stem, images)
        yield cross_entropy(seen(network, features, rng), truth)


def of_colours(network: ColoursNet, settings: TransformerSettings) -> Iterator[Tensor]:
    """Yield how far a network is from choosing the two captions of a scene among all."""
    trained = load_transformer("digits-vit").state_dict()
    known = {name: value for name, value in trained.items() if not name.startswith("heads")}
    network.pictures.load_state_dict(known, strict=False)
    stem = stem_of(network.pictures)
    world = scenes(settings.samples, seed=settings.seed, split="train", coloured=True)
    assert world.colours is not None
    tokens = network.tokenize(CAPTIONS)
    for images, truth, rng in lessons(world, 10 * world.colours + world.labels, len(CAPTIONS), settings):
        made = seen(network.pictures, in_half(stem, images), rng)
        cosines = normalize(made, dim=1) @ normalize(network.encode_text(tokens), dim=1).T
        yield cross_entropy(network.logit_scale.exp() * cosines, truth)


def lessons(
    world: Scenes, labels: np.ndarray, classes: int, settings: TransformerSettings
) -> Iterator[tuple[Tensor, Tensor, np.random.Generator]]:
    """Yield close-ups, then whole scenes, the share of each class in them, and what draws at random."""
    rng = np.random.default_rng(settings.seed)
    for step in range(settings.close_ups + settings.steps):
        rows = rng.choice(len(world.images), settings.batch, replace=False)
        some = Scenes(world.images[rows], labels[rows], world.masks[rows])
        images, truth = some.images, present(some.labels, classes)
        if step < settings.close_ups:
            images, truth = look_closer(some, rng, classes)
        yield prepare(images), normalize(torch.from_numpy(truth).float(), 1, dim=1), rng


def in_half(stem: nn.Module, images: Tensor) -> Tensor:
    """Return what convolutions make of pictures, in the precision that they are fast in."""
    with torch.autocast("cpu", torch.bfloat16):
        features: Tensor = stem(images.contiguous(memory_format=torch.channels_last))
    return features.float()


def begin_as_digits(network: VisionTransformer) -> nn.Module:
    """Give the first four convolutions the weights of `chronocam:digits`, and return them."""
    stem = stem_of(network)
    theirs = [part for stage in list(load_digits_net().features.children())[:2] for part in stage.children()]
    for part, other in zip((part for block in stem for part in block.children()), theirs, strict=True):
        part.load_state_dict(other.state_dict())
    return stem


def stem_of(network: VisionTransformer) -> nn.Sequential:
    """Return the first four convolutions, whose norms are no longer measured."""
    return nn.Sequential(*list(network.conv_proj.children())[:4]).eval()


def seen(network: VisionTransformer, features: Tensor, rng: np.random.Generator) -> Tensor:
    """Return what a network says of scenes, or of close-ups as if they lay anywhere in a scene.

    features: what its first four convolutions return.
    """
    made = network.conv_proj[4:](features)
    first, places = network.encoder.pos_embedding.split([1, network.seq_length - 1], dim=1)
    whole, side = isqrt(network.seq_length), made.shape[2]
    top, left = rng.integers(0, whole - side, 2, endpoint=True)
    window = places.unflatten(1, (whole, whole))[:, top : top + side, left : left + side]
    tokens = made.flatten(2).mT + window.flatten(1, 2)
    tokens = torch.cat([(network.class_token + first).expand(len(tokens), -1, -1), tokens], dim=1)
    logits: Tensor = network.heads(network.encoder.ln(network.encoder.layers(tokens))[:, 0])
    return logits


def of_gestures(network: GesturesTransformer, settings: TransformerSettings) -> Iterator[Tensor]:
    """Yield how far a network is from naming the gesture in a clip."""
    theirs = load_gesture_net("gestures-3d").get_submodule("features")
    weights = {name: value for name, value in theirs.state_dict().items() if name[0] in "01"}
    network.stem.load_state_dict(weights)
    network.stem.requires_grad_(False).eval()
    made, labels = stemmed(network, settings.samples, settings.seed)
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.steps):
        rows = torch.from_numpy(rng.choice(len(made), settings.batch, replace=False))
        yield cross_entropy(network.classify(made[rows].float()), labels[rows], label_smoothing=0.05)


@torch.inference_mode()
def stemmed(
    network: GesturesTransformer, count: int, seed: int, split: str = "train"
) -> tuple[Tensor, Tensor]:
    """Return what the stem makes of clips, and what is done in them."""
    made, labels = [], []
    for index in track(range(count), "Rendering", console=STDERR, transient=True):
        clip = gestures.clip(index, seed=seed, split=split)
        labels.append(int(clip.labels[0]))
        made.append(network.stem(prepare(clip.pixels).transpose(0, 1)[None]).half())
    return torch.cat(made), torch.tensor(labels)


def judge_digits(network: VisionTransformer, held_out: int) -> dict[str, object]:
    """Return how often both digits of a scene are found."""
    return measure(network, scenes(held_out, split="test"))


@torch.inference_mode()
def judge_gestures(network: GesturesTransformer, held_out: int) -> dict[str, object]:
    """Return how often the gesture in a clip is named."""
    made, labels = stemmed(network, held_out, 0, "test")
    found = torch.cat([network.classify(part.float()).argmax(1) for part in torch.split(made, 100)])
    return dict(accuracy(labels.numpy(), found.numpy(), gestures.LABELS))


@torch.inference_mode()
def judge_colours(network: ColoursNet, held_out: int) -> dict[str, object]:
    """Return how often the two captions of a scene are the first two of all fifty."""
    world = scenes(held_out, split="test", coloured=True)
    assert world.colours is not None
    truth = present(10 * world.colours + world.labels, len(CAPTIONS))
    texts = normalize(network.encode_text(network.tokenize(CAPTIONS)), dim=1)
    made = torch.cat([network.encode_image(part) for part in torch.split(prepare(world.images), 100)])
    best = (normalize(made, dim=1) @ texts.T).topk(2, dim=1).indices.numpy()
    right = present(best, len(CAPTIONS)) & truth
    return {
        "held-out scenes": held_out,
        "both captions right": round(float((right.sum(axis=1) == 2).mean()), 4),
        "captions right": round(float(right.sum() / truth.sum()), 4),
    }


Losses = Callable[[Any, TransformerSettings], Iterator[Tensor]]
Judge = Callable[[Any, int], dict[str, object]]
COURSES: dict[str, tuple[Losses, Judge]] = {
    "digits-vit": (of_digits, judge_digits),
    "gestures-transformer": (of_gestures, judge_gestures),
    "colours": (of_colours, judge_colours),
}
"""What each network learns from, and how it is judged."""

if __name__ == "__main__":
    main()
