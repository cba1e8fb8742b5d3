"""The default call on the architectures of public libraries: right, refused, or wrong.

python -m benchmarks.zoo [--families torchvision,timm,hf,video,segmentation,keras] [--only PATTERN] [--all]

What came out is kept in docs/zoo.json: architectures that are in there run again with --again only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import track

from benchmarks.zoo.build import hf_cases, timm_cases, torchvision_cases
from benchmarks.zoo.outcome import Case, Outcome
from benchmarks.zoo.page import PARTS, read, write
from benchmarks.zoo.workers import run_torch

LIBRARIES: Final = ("torch", "torchvision", "timm", "transformers", "keras")


@click.command()
@click.option("--families", default=",".join(PARTS), show_default=True, help="Which parts to run.")
@click.option("--only", default="", help="Run architectures whose name holds this pattern.")
@click.option("--all", "every", is_flag=True, help="All variants, not the smallest of each family.")
@click.option("--again", is_flag=True, help="Run those again that ran before.")
@click.option("--minutes", default=0.0, help="Start none after so many minutes; 0 for no end.")
@click.option("--workers", default=1, show_default=True, help="How many run at the same time.")
@click.option("--out", default=Path("docs/zoo.json"), type=Path, show_default=True, help="What to write.")
def main(families: str, only: str, every: bool, again: bool, minutes: float, workers: int, out: Path) -> None:
    parts = families.split(",")
    outcomes = {one.name: one for one in read(out)}
    known = torch_cases(list(PARTS), every)
    cases = [
        case
        for case in known
        if case.part in parts and re.search(only, case.name) and (again or case.name not in outcomes)
    ]
    console = Console(stderr=True)

    def save(one: Outcome) -> None:
        outcomes[one.name] = one
        waiting = [case.name for case in known if case.name not in outcomes]
        write(list(outcomes.values()), out, {name: version(name) for name in LIBRARIES}, waiting)
        if one.verdict != "right":
            line = f"{one.verdict}: {one.name} {one.layer} {one.reason}"
            console.print(line, markup=False, soft_wrap=True)

    for outcome in track(run_torch(cases, workers, minutes), "Architectures", len(cases), console=console):
        save(outcome)
    if "keras" in parts:
        names = [] if again else [name for name in outcomes if name.startswith("keras ")]
        for outcome in run_keras(only, names):
            save(outcome)


def torch_cases(parts: Sequence[str], every: bool) -> list[Case]:
    """Return the architectures in PyTorch: one of each family, then a second of each that has more."""
    sources = [
        *(hf_cases(every) if {"hf", "video", "segmentation"} & set(parts) else ()),
        *(torchvision_cases(every) if {"torchvision", "video", "segmentation"} & set(parts) else ()),
        *(timm_cases(every) if "timm" in parts else ()),
    ]
    seen: Counter[tuple[str, str]] = Counter()
    ranks: dict[Case, int] = {}
    for one in sources:
        ranks[one] = seen[one.part, one.family]
        seen[one.part, one.family] += 1
    return sorted((one for one in sources if one.part in parts), key=lambda one: ranks[one])


def run_keras(only: str, names: Sequence[str]) -> Iterator[Outcome]:
    """Yield what comes out for keras.applications but those of these names, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.zoo.keras_check", "--only", only, *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                yield Outcome(**json.loads(line))


if __name__ == "__main__":
    main()
