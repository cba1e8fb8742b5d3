"""`chronocam explain`: pictures, a contact sheet and JSON for each input."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from chronocam.errors import ChronocamError, InputError, TargetError
from chronocam.methods import METHODS

LONGEST_SIDE = 1024  # of the pictures written, in pixels


@click.command("explain")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--model", "spec", required=True, help="Model spec, such as torchvision:resnet50.")
@click.option("--target", "targets", multiple=True, help="Class index or label; the predicted class if none is given.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("gradcam",),
    type=click.Choice(sorted(METHODS)),
    metavar="METHOD",
    show_default=True,
    help=f"One of {', '.join(sorted(METHODS))}.",
)
@click.option("--layer", "layers", multiple=True, help="Dotted path; the last layer with a grid if none is given.")
@click.option(
    "--align",
    type=click.Choice(["half_pixel", "receptive_field"]),
    default="half_pixel",
    show_default=True,
    help="Where the cells of a map lie in the picture.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-out"),
    show_default=True,
    help="Folder for pictures and JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON to stdout too.")
@click.option("--trust", is_flag=True, help="Let the model's files run code.")
def command(
    inputs: Sequence[str],
    spec: str,
    targets: Sequence[str],
    methods: Sequence[str],
    layers: Sequence[str],
    align: str,
    out: Path,
    as_json: bool,
    trust: bool,
) -> None:
    """Explain pictures: INPUTs are files, folders or glob patterns.

    For each input OUT gets an overlay per map, a contact sheet and the numbers as JSON. An input that cannot be
    explained is reported, and the others go on.
    """
    from chronocam.models import load

    loaded = load(spec, trust=trust)
    job = _Job(loaded, _targets(loaded, targets), methods, _layers(loaded, layers), align, out)
    results = list(_explain_all(job, inputs))
    if as_json:
        click.echo(json.dumps({"model": spec, "inputs": results}, indent=2))
    failed = sum("error" in result for result in results)
    if failed:
        raise ChronocamError(f"{failed} of {len(results)} inputs could not be explained; see the lines above")


def _targets(loaded: Any, given: Sequence[str]) -> Any:
    """Return the targets, looked up once: an unknown label is an error of the call, not of every input."""
    from chronocam.targets import Class
    from chronocam.targets.labels import find_label

    def index(text: str) -> int:
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        if loaded.labels is None:
            raise TargetError(f"the model has no labels to find `{text}` in; give the class index")
        return find_label(loaded.labels, text)

    return [Class(index(text)) for text in given] or None


def _layers(loaded: Any, given: Sequence[str]) -> list[str] | None:
    from chronocam.engines import engine_for

    engine = engine_for(loaded.model)
    return [engine.resolve(layer) for layer in given] or None


def _explain_all(job: _Job, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True, highlight=False, markup=False)
    names: set[str] = set()
    for path, result in track(list(_found(inputs)), "Explaining", console=console, transient=True):
        if result is None:
            try:
                result = job.run(path, _unique(path.stem, names))
            except ChronocamError as error:
                result = {"input": str(path), "error": str(error)}
        console.print(_line(result), soft_wrap=True)
        yield result


def _found(inputs: Sequence[str]) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yield every picture, and for arguments that name none the result that says so."""
    from chronocam.media import find_images

    for given in inputs:
        try:
            yield from ((path, None) for path in find_images([given]))
        except ChronocamError as error:
            yield Path(given), {"input": given, "error": str(error)}


def _line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"error: {result['error']}"
    told = ", ".join(dict.fromkeys(f"{m['target']} {m['score']:.3g}" for m in result["maps"]))
    findings = "".join(f"\n  {finding}" for finding in result["diagnostics"])
    return f"{result['input']}: {told} → {result['sheet']}{findings}"


def _unique(stem: str, taken: set[str]) -> str:
    """Return a file name made of `stem` that is safe and not in `taken` yet."""
    name = base = slug(stem)
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def slug(text: str) -> str:
    """Return `text` as part of a file name: letters, digits, dots and hyphens, never a path."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:80] or "unnamed"


class _Job:
    """What is done to each picture."""

    def __init__(
        self, loaded: Any, targets: Any, methods: Sequence[str], layers: Sequence[str] | None, align: str, out: Path
    ) -> None:
        self.loaded, self.targets, self.align, self.out = loaded, targets, align, out
        self.methods, self.layers = list(dict.fromkeys(methods)), layers

    def run(self, path: Path, name: str) -> dict[str, Any]:
        """Explain one picture, write its files and return its results."""
        from chronocam.explain import explain
        from chronocam.media import read_image
        from chronocam.media.files import replace_file

        image = read_image(path)
        explanations = explain(
            self.loaded.model,
            self.loaded.preprocess(image)[None],
            self.targets,
            methods=self.methods,
            layers=self.layers,
            align=self.align,
        )
        for explanation in explanations.values():
            if not (np.isfinite(explanation.scores).all() and np.isfinite(explanation.maps).all()):
                raise InputError(f"`{path}`: {explanation.diagnostics[-1]}")
        result = _Drawing(self, image, explanations, name).result(str(path))
        text = json.dumps({"model": self.loaded.spec, **result}, indent=2)
        replace_file(self.out / f"{name}.json", lambda temporary: temporary.write_text(text))
        return result


class _Drawing:
    """The pictures of one input: maps over the part that the network saw, the rest dimmed."""

    def __init__(self, job: _Job, image: Any, explanations: dict[str, Any], name: str) -> None:
        self.out, self.name, self.size = job.out, name, image.size
        self.preprocess, self.explanations = job.loaded.preprocess, explanations
        self.picture = image.copy()
        self.picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        self.region = [round(v) for v in self.preprocess.region(*self.picture.size)]

    def result(self, source: str) -> dict[str, Any]:
        """Write all pictures and return the results of the input."""
        from chronocam.render import contact_sheet, save_figure

        rows, titles, maps = [], [], []
        for key, explanation in self.explanations.items():
            drawn = self._overlays(explanation)
            entries = [self._entry(key, explanation, k, picture) for k, picture in enumerate(drawn)]
            rows.append([np.asarray(self.picture), *drawn])
            titles.append([key, *(f"{entry['target']}\n{entry['score']:.3g}" for entry in entries)])
            maps.extend(entries)
        sheet = save_figure(contact_sheet(rows, titles), self.out / f"{self.name}.sheet.png")
        findings = dict.fromkeys(f for e in self.explanations.values() for f in e.diagnostics)
        seen = [round(v, 2) for v in self.preprocess.region(*self.size)]
        return {
            "input": source,
            "size": list(self.size),
            "seen": seen,
            "sheet": str(sheet),
            "maps": maps,
            "diagnostics": list(findings),
        }

    def _overlays(self, explanation: Any) -> list[np.ndarray]:
        from PIL import Image

        seen = self.picture.crop(self.region)
        dimmed = self.picture.point(lambda value: value * 0.45)
        overlays = []
        for drawn in explanation.overlay([seen])[0]:
            whole = dimmed.copy()
            whole.paste(Image.fromarray(drawn), (self.region[0], self.region[1]))
            overlays.append(np.asarray(whole))
        return overlays

    def _entry(self, key: str, explanation: Any, k: int, picture: np.ndarray) -> dict[str, Any]:
        from chronocam.media import write_image

        info = explanation.targets[0][k]
        path = self.out / f"{self.name}.{slug(key)}.{k}-{slug(info.name)}.png"
        write_image(path, picture)
        boxes = [self.preprocess.to_original(box, self.size) for box in explanation.boxes()[0][k]]
        return {
            "method": explanation.method,
            "layer": explanation.layer,
            "grid": list(explanation.maps.shape[2:]),
            "target": info.name,
            "index": info.index,
            "score": float(explanation.scores[0, k]),
            "boxes": [[round(float(v), 2) for v in box] for box in boxes],
            "picture": str(path),
        }
