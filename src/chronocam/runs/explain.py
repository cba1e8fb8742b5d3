"""`chronocam explain` from its inputs to files, lines on stderr and JSON on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from chronocam.errors import ChronocamError
from chronocam.media.files import distinct
from chronocam.records import (
    ClipFeatureResult,
    Failure,
    FeatureResult,
    Result,
    SequenceEntry,
)
from chronocam.runs.files import slug
from chronocam.runs.job import Job
from chronocam.runs.options import Options
from chronocam.runs.pages import write_pages
from chronocam.runs.plan import plan
from chronocam.runs.terminal import console, put_json, say


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
    failed = sum(isinstance(result, Failure) for result in results)
    if pages and failed < len(results):
        say(f"pages: {write_pages(options.out)}")
    if as_json:
        data = {"model": spec, "inputs": [result.to_json() for result in results]}
        put_json(data)
    if failed:
        raise ChronocamError(f"{failed} of {len(results)} inputs could not be explained; see the lines above")


def _results(job: Job, arguments: Sequence[str]) -> Iterator[Result | Failure]:
    from rich.progress import track

    # Inputs of different folders may have the same name, and their files go into one folder.
    names: set[str] = set()
    for one in track(list(job.inputs(arguments)), "Explaining", console=console(), transient=True):
        result = one if isinstance(one, Failure) else _explained(job, one, names)
        say(*_lines(result))
        yield result


def _explained(job: Job, path: Path, names: set[str]) -> Result | Failure:
    try:
        return job.run(path, distinct(slug(path.resolve().stem), names))
    except ChronocamError as error:
        return Failure(input=str(path), error=str(error))


def _lines(result: Result | Failure) -> list[str]:
    """Return the line about one input, and one for each finding."""
    if isinstance(result, Failure):
        return [f"error: {result.error}"]
    if isinstance(result, (FeatureResult, ClipFeatureResult)):
        parts = [_relevance(entry) for entry in result.sequences]
        if isinstance(result, ClipFeatureResult):
            parts.append(f"on the frames → {result.sheet}")
        line = "; ".join(parts)
    else:
        scores = ", ".join(dict.fromkeys(f"{entry.target} {entry.score:.3g}" for entry in result.maps))
        line = f"{scores} → {result.sheet}"
    return [f"{result.input}: {line}", *(f"  {finding}" for finding in result.diagnostics)]


def _relevance(entry: SequenceEntry) -> str:
    count = len(entry.targets)
    what = f"{entry.targets[0]} {entry.scores[0]:.3g}" if count == 1 else f"{count} targets"
    when = ""
    if entry.settling is not None:
        step = entry.settling.step
        when = ", never settled" if step is None else f", settled at step {step}"
    return f"{entry.method}: {what}{when} → {entry.sheet}"
