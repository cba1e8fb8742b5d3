"""The default call on the architectures of public libraries: right, refused, or wrong.

python -m benchmarks.zoo [--families torchvision,timm,hf,video,segmentation,keras] [--only PATTERN] [--all]
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.zoo.build import hf_cases, timm_cases, torchvision_cases
from benchmarks.zoo.check import Case, Outcome, outcome_of
from benchmarks.zoo.page import PARTS, write

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "keras")


@click.command()
@click.option("--families", default=",".join(PARTS), show_default=True, help="Which parts to run.")
@click.option("--only", default="", help="Run architectures whose name holds this pattern.")
@click.option("--all", "every", is_flag=True, help="All variants, not the smallest of each family.")
@click.option("--minutes", default=0.0, help="Stop after so many minutes; 0 for no end.")
@click.option("--out", default=Path("docs/zoo.json"), type=Path, show_default=True, help="What to write.")
def main(families: str, only: str, every: bool, minutes: float, out: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    parts = families.split(",")
    cases = torch_cases([part for part in parts if part != "keras"], only, every)
    console, outcomes, start = Console(stderr=True), [], time.perf_counter()
    versions = {name: version(name) for name in LIBRARIES}

    def save() -> None:
        ran = "All variants ran." if every else "The smallest variant of each family ran."
        left = Counter(one.part for one in cases[sum(one.part != "keras" for one in outcomes) :])
        if left:
            counts = "; ".join(f"{PARTS[part]}: {count}" for part, count in left.items())
            ran = f"{len(outcomes)} ran. Not run yet are, of {counts}."
        write(outcomes, out, {"ran": ran, "versions": versions})

    for case in track(cases, "Architectures", console=console):
        if minutes and time.perf_counter() - start > 60 * minutes:
            break
        outcomes.append(outcome_of(case))
        if outcomes[-1].verdict != "right":
            last = outcomes[-1]
            console.print(
                f"{last.verdict}: {last.name} {last.layer} {last.reason}", markup=False, soft_wrap=True
            )
        gc.collect()
        save()  # what came out so far, should the process be ended
    if "keras" in parts:
        outcomes += run_keras(only, every)
    save()


def torch_cases(parts: list[str], only: str, every: bool) -> list[Case]:
    """Return the architectures in PyTorch."""
    torch.set_num_threads(1)
    sources = [
        *(hf_cases(every) if {"hf", "video", "segmentation"} & set(parts) else ()),
        *(torchvision_cases(every) if {"torchvision", "video", "segmentation"} & set(parts) else ()),
        *(timm_cases(every) if "timm" in parts else ()),
    ]
    return [one for one in sources if one.part in parts and re.search(only, one.name)]


def run_keras(only: str, every: bool) -> list[Outcome]:
    """Return what comes out for keras.applications, from a process of its own."""
    arguments = ["--only", only, *(["--all"] if every else [])]
    command = [sys.executable, "-m", "benchmarks.zoo.keras_check", *arguments]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Outcome(**json.loads(line)) for line in child.stdout.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    main()
