"""Claims about maps of published networks on their own data: writes docs/claims-real.md and its numbers.

Needs the data that the tests use: CHRONOCAM_DATA, or ../shared/data beside the project. In a minute on one
core: `python -m benchmarks.claims.real`.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import torch
from rich.console import Console

from benchmarks.claims.page import DOCS
from benchmarks.claims.real import ecg, regression
from benchmarks.claims.real.claims import PAGE
from benchmarks.claims.tables import Record


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=DOCS)
def main(out: Path) -> None:
    """Measure and write the page."""
    torch.set_num_threads(1)
    os.environ.setdefault("KERAS_BACKEND", "torch")
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    data, console = Path(os.environ.get("CHRONOCAM_DATA", default)), Console(stderr=True)
    with console.status("Heart beats"):
        about, tables = ecg.measure(data / "real/ecg")
    with console.status("Ages"):
        pictures = regression.faces(data)
        tables["age"] = regression.age(data / "age", pictures)
    with console.status("Steering"):
        tables["steering"] = regression.steering(data / "real/steering")
    print(PAGE.publish(Record({**about, "faces": len(pictures)}, tables), out))


if __name__ == "__main__":
    main()
