"""`chronocam explain` from its inputs to files, lines on stderr and JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from chronocam.errors import ChronocamError
from chronocam.runs.drives.job import DriveJob
from chronocam.runs.features import FeatureJob, summary
from chronocam.runs.job import Job, slug
from chronocam.runs.options import Options
from chronocam.runs.pages import write_pages
from chronocam.runs.plan import plan


def explain_all(
    inputs: Sequence[str], spec: str, options: Options, *, trust: bool, pages: bool, as_json: bool
) -> None:
    """Explain every input that the arguments name; inputs that fail are reported, and the rest go on.

    pages: write a page for each result, and an index.
    as_json: print the results to stdout.

    Raises ChronocamError where the call itself does not fit, and at the end where inputs failed.
    """
    job = plan(spec, trust, inputs, options)
    results = list(_results(job, inputs))
    failed = sum("error" in result for result in results)
    if pages and failed < len(results):
        click.echo(f"pages: {write_pages(options.out)}", err=True)
    if as_json:
        click.echo(json.dumps({"model": spec, "inputs": results}, indent=2))
    if failed:
        raise ChronocamError(f"{failed} of {len(results)} inputs could not be explained; see the lines above")


def _results(job: Job | FeatureJob | DriveJob, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True, highlight=False, markup=False)
    names: set[str] = set()
    for path, fault in track(list(job.found(inputs)), "Explaining", console=console, transient=True):
        result = {"input": str(path), "error": fault} if fault else _explained(job, path, names)
        console.print(_line(result), soft_wrap=True)
        yield result


def _explained(job: Job | FeatureJob | DriveJob, path: Path, names: set[str]) -> dict[str, Any]:
    try:
        return job.run(path, _unique(path.resolve().stem, names))
    except ChronocamError as error:
        return {"input": str(path), "error": str(error)}


def _line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"error: {result['error']}"
    findings = "".join(f"\n  {finding}" for finding in result["diagnostics"])
    if "sequences" in result:
        return f"{summary(result)}{findings}"
    scores = ", ".join(dict.fromkeys(f"{m['target']} {m['score']:.3g}" for m in result["maps"]))
    return f"{result['input']}: {scores} → {result['sheet']}{findings}"


def _unique(stem: str, taken: set[str]) -> str:
    """Return a file name made of `stem` that is safe and not in `taken` yet."""
    name = base = slug(stem)
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
