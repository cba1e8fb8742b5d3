"""Write docs/zoo.json and docs/zoo.md from what came out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.zoo.outcome import Outcome

VERDICTS: Final = ("right", "earlier", "part", "refused", "wrong")

PARTS: Final = {
    "torchvision": "torchvision, classifiers",
    "timm": "timm, classifiers",
    "hf": "transformers, classifiers",
    "video": "clips (torchvision, transformers)",
    "segmentation": "segmentation (torchvision, transformers)",
    "keras": "keras.applications",
}

INTRODUCTION: Final = """# The default call on many architectures

`cc.GradCAM(model).explain(x)`, with no layer named, on architectures of public libraries: small variants and
configurations, random weights, noise as input, batch 1. Batch norms have the statistics of noise, and weights
that start at zero have small values.

An architecture is **right** where all of these hold, each found out by hand with hooks and autograd:

- the score is the model's own;
- the map equals Grad-CAM of that layer, to 1e-4 of its largest magnitude, and is not blank;
- the grid is the input's. Outputs with the grid of a convolution, a batch norm or a pooling of the model have
  their channels first, in Keras last, as those have. For all others the corners of the input are filled with
  other noise: the share of a cell's change that comes from the far half of an axis rises along that axis of
  the grid, and along no other more;
- the layer is not in a branch: with its output detached, the score depends on no earlier layer of its grid;
- the layer is not too early: no later one is usable, with a grid that follows the input, a gradient in most
  cells, and in no branch. In timm, it does not stand before the last features that the library lists with
  another grid; in keras.applications, no later layer has rows and columns;
- the layer is not the model's output on another grid.

It is **earlier** where all of these hold but that a later layer is usable by its shape, and a finding says
that the cells of the later ones do not follow the input: attention that is not trained mixes all places. It
is a **part** where all of these hold but that class tokens lead past the layer, and a finding says so: such
networks exchange tokens between branches at every stage, and nothing but their first layers is on every way.
No later cell of its grid that the score depends on is reached around it. It is **refused** where chronocam
gives an error with a reason, and **wrong** in all other cases. What could not be built, or not be checked
within the time limit, is listed and not counted. Random weights say nothing about how sensible a map is.
"""


def read(source: Path) -> list[Outcome]:
    """Return what came out before, as it was written; nothing where there is no such file."""
    if not source.exists():
        return []
    return [Outcome(**row) for row in json.loads(source.read_text())["models"]]


def write(
    outcomes: Sequence[Outcome], target: Path, versions: Mapping[str, str], waiting: Sequence[str] = ()
) -> None:
    """Write what came out as JSON, and as a page beside it; waiting: the names of what has not run yet."""
    parts = list(PARTS)
    outcomes = sorted(outcomes, key=lambda one: (parts.index(one.part), one.name))
    rows = [asdict(one) for one in outcomes]
    target.write_text(json.dumps({"versions": dict(versions), "models": rows}, indent=1) + "\n")
    target.with_suffix(".md").write_text(page(outcomes, versions, waiting))


def page(outcomes: Sequence[Outcome], versions: Mapping[str, str], waiting: Sequence[str]) -> str:
    """Return the page."""
    judged = [one for one in outcomes if one.verdict in VERDICTS]
    right = sum(one.verdict == "right" for one in judged)
    lines = [INTRODUCTION, f"**{right} of {len(judged)} are right.**", ""]
    lines += ["| part | " + " | ".join(VERDICTS) + " |", "|---|" + "--:|" * len(VERDICTS)]
    for part, name in PARTS.items():
        counts = Counter(one.verdict for one in judged if one.part == part)
        if counts:
            lines.append(f"| {name} | " + " | ".join(str(counts[verdict]) for verdict in VERDICTS) + " |")
    if waiting:
        lines += ["", f"{len(waiting)} have not run yet: {', '.join(sorted(waiting))}."]
    for verdict in (*VERDICTS[1:], "not built"):
        some = [one for one in outcomes if one.verdict == verdict]
        title = "Not built or not checked" if verdict == "not built" else verdict.capitalize()
        lines += ["", f"## {title}", ""]
        lines += [_item(one) for one in some] or ["None."]
    lines += ["", "## Right", ""]
    for part, name in PARTS.items():
        some = [one for one in outcomes if one.part == part and one.verdict == "right"]
        if some:
            table = ["", "| architecture | layer | grid |", "|---|---|---|"]
            lines += [f"### {name}", *table, *(_row(one) for one in some), ""]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines += [f"Measured with {shown}, on a CPU, by `python -m benchmarks.zoo`.", ""]
    return "\n".join(lines)


def _item(one: Outcome) -> str:
    layer = f" (`{one.layer}`)" if one.layer else ""
    return f"- {one.name}{layer}: {one.reason}"


def _row(one: Outcome) -> str:
    return f"| {one.name} | `{one.layer}` | {' × '.join(map(str, one.grid))} |"
