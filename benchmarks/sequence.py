"""Relevance through an LSTM: time and memory at full size, and how often it finds the steps that count.

The full size is 53 steps of 1,024 features, a hidden state of 1,000 and 15 classes at every step; all 53
outputs are explained. Each entry runs in a process of its own, and its time is set beside 53 backward passes
through the LSTM.

In the task with a known answer a clip of noise holds two cues at random steps, and their signs decide the
class. Small LSTMs are trained on it, with cues as large as the noise and with cues that saturate the gates; a
method hits where the two steps of most relevance are the cues.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
import torch
from torch import nn

from benchmarks.harness import PeakMemory, in_its_own_process
from chronocam import sequence
from chronocam.metrics import bootstrap
from chronocam.targets import EveryStep

STEPS, FEATURES, HIDDEN, CLASSES = 53, 1024, 1000, 15
METHODS: dict[str, Callable[[nn.Module], sequence.SequenceMethod]] = {
    "lrp": sequence.LRP,
    "gradientxinput": sequence.GradientXInput,
    "gradient": sequence.Gradient,
    "integratedgradients": sequence.IntegratedGradients,
    "smoothgrad": sequence.SmoothGrad,
}
TIMED = ("lrp", "gradientxinput")


class Tagger(nn.Module):
    """An LSTM with a linear layer at every step, or at the last one."""

    def __init__(self, features: int, hidden: int, classes: int, per_step: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)
        self.per_step = per_step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.lstm(x)[0]
        return self.head(states if self.per_step else states[:, -1])


def backward_passes(model: nn.Module, x: torch.Tensor) -> float:
    """Return the seconds of one backward pass through the LSTM for each of 53 outputs."""
    source = x.clone().requires_grad_()
    outputs = model(source)
    start = time.perf_counter()
    for t in range(STEPS):
        torch.autograd.grad(outputs[0, t, 0], source, retain_graph=True)
    return time.perf_counter() - start


def measure(name: str, threads: int) -> None:
    """Print seconds, ratio to 53 backward passes, and peak memory above the model."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Tagger(FEATURES, HIDDEN, CLASSES, per_step=True).eval().requires_grad_(False)
    x = torch.randn(1, STEPS, FEATURES)
    floor = min(backward_passes(model, x) for _ in range(2))
    method = METHODS[name](model)
    method.explain(x[:, :4], EveryStep())  # lazy set-up
    peak, seconds = PeakMemory(), []
    for _ in range(3):
        start = time.perf_counter()
        method.explain(x, EveryStep())
        seconds.append(time.perf_counter() - start)
    median = np.median(seconds)
    print(f"{median:.2f} s  {median / floor:5.2f} × {floor:.2f} s  {peak.megabytes():.0f} MB")


def cues(count: int, size: float, seed: int, steps: int = 24, features: int = 6) -> tuple[np.ndarray, ...]:
    """Return clips of noise with two cues, their classes, and the steps of the cues."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.3, (count, steps, features)).astype(np.float32)
    where = np.sort(np.stack([rng.permutation(steps)[:2] for _ in range(count)]), axis=1)
    signs = rng.integers(0, 2, (count, 2))
    for k in range(2):  # the first cue speaks through one feature, the second through another
        x[np.arange(count), where[:, k], k] += size * (2 * signs[:, k] - 1)
    return x, 2 * signs[:, 0] + signs[:, 1], where


def trained(size: float, seed: int) -> tuple[nn.Module, float]:
    """Return an LSTM that knows the task, and its accuracy."""
    torch.manual_seed(seed)
    model = Tagger(6, 24, 4, per_step=False)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    x, y, _ = (torch.from_numpy(part) for part in cues(4096, size, seed))
    for step in range(800):
        rows = torch.randint(0, len(x), (128,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, y, _ = (torch.from_numpy(part) for part in cues(500, size, seed + 1000))
    with torch.no_grad():
        return model.eval(), float((model(x).argmax(1) == y).float().mean())


def hits(name: str, model: nn.Module, size: float, seed: int, count: int) -> np.ndarray:
    """Return, per clip, the share of the two cues that are among the two steps of most relevance."""
    x, y, where = cues(count, size, seed + 2000)
    relevance = METHODS[name](model).explain(x, y).relevance[:, 0]
    top = np.argsort(-np.abs(relevance).sum(axis=2), axis=1)[:, :2]
    return (top[:, :, None] == where[:, None, :]).any(axis=1).mean(axis=1)


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option(
    "--clips", default=60, show_default=True, help="Clips per trained LSTM of the task with a known answer."
)
@click.option("--seeds", default=3, show_default=True)
@click.option("--entry", type=click.Choice(TIMED), hidden=True)
def main(threads: int, clips: int, seeds: int, entry: str | None) -> None:
    if entry is not None:
        measure(entry, threads)
        return
    shape = f"{STEPS} × {FEATURES}, hidden {HIDDEN}, {CLASSES} classes"
    print(f"{shape}, all outputs, {threads} threads, torch {torch.__version__}")
    for name in TIMED:
        output, failure = in_its_own_process("sequence", name, threads=threads)
        print(f"{name:20} {output or failure}", flush=True)
    torch.set_num_threads(threads)
    for size in (2.0, 40.0):
        models = [trained(size, seed) for seed in range(seeds)]
        print(f"\ncues of {size:g}, {seeds} trainings: accuracy {', '.join(f'{a:.3f}' for _, a in models)}")
        for name in METHODS:
            values = [hits(name, model, size, seed, clips) for seed, (model, _) in enumerate(models)]
            print(f"  {name:20} {bootstrap(np.concatenate(values))}", flush=True)


if __name__ == "__main__":
    main()
