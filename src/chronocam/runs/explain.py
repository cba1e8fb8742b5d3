"""`chronocam explain` from its inputs to files, lines on stderr and JSON on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final

from chronocam.errors import ChronocamError
from chronocam.media.files import distinct
from chronocam.records import (
    ClipFeatureResult,
    DriveEntry,
    Failure,
    FeatureResult,
    MapEntry,
    Result,
    SequenceEntry,
)
from chronocam.render.words import percent
from chronocam.runs.files import slug
from chronocam.runs.inputs import refuse_absent
from chronocam.runs.job import Job
from chronocam.runs.options import Options
from chronocam.runs.pages import open_page, write_pages
from chronocam.runs.plan import plan
from chronocam.runs.terminal import put_json, say, say_news, track, warn

MANY: Final = 16
"""For more inputs than this, pictures are drawn only on request."""


def explain_all(
    inputs: Sequence[str],
    spec: str,
    options: Options,
    *,
    device: str | None = None,
    trust: bool,
    wants: Mapping[str, str] | None = None,
    pages: bool,
    opened: bool = False,
    as_json: bool,
) -> None:
    """Explain every input that the arguments name; inputs that fail are reported, and the rest go on.

    device: where the model runs; None for where it is loaded.
    wants: what was said of the model's inputs and labels, as of `chronocam.models.load`.
    pages: write a page for each result, and an index.
    opened: open the pages in a browser.
    as_json: print the results to stdout.

    Raises ChronocamError where the call itself does not fit, and at the end where inputs failed.
    """
    refuse_absent(inputs)
    job = plan(spec, trust, inputs, options, device, wants)
    paths = list(job.inputs(inputs))
    if options.pictures is None and len(paths) > MANY:
        say(f"{len(paths)} inputs: maps and numbers alone; --pictures draws them too")
        job = replace(job, draws=False)
    results = list(_results(job, paths))
    failed = sum(isinstance(result, Failure) for result in results)
    if pages and failed < len(results):
        index = write_pages(options.out)
        say(f"pages: {index}")
        if opened:
            open_page(index)
    if as_json:
        data = {"model": spec, "inputs": [result.to_json() for result in results]}
        put_json(data)
    if failed:
        raise ChronocamError(f"{failed} of {len(results)} inputs could not be explained; see the lines above")


def _results(job: Job, paths: Sequence[Path | Failure]) -> Iterator[Result | Failure]:
    # Inputs of different folders may have the same name, and their files go into one folder.
    names, known = set[str](), set[str]()
    with ExitStack() as scope:
        say_news(scope, "chronocam.methods")
        for batch in track(_batches(paths, job.batch_size), "Explaining"):
            named = [
                (one, distinct(slug(one.resolve().stem), names)) for one in batch if isinstance(one, Path)
            ]
            failures = [one for one in batch if isinstance(one, Failure)]
            for result in chain(failures, job.results(named)):
                if isinstance(result, Failure):
                    warn(f"error: {_failure(result)}")
                else:
                    say(_line(result), *_news(result.diagnostics, known))
                yield result


def _batches(items: Sequence[Path | Failure], size: int) -> list[list[Path | Failure]]:
    """Return runs of at most `size` paths; each failure stands alone, in its place."""
    batches: list[list[Path | Failure]] = []
    for one in items:
        last = batches[-1] if batches else []
        if isinstance(one, Path) and 0 < len(last) < size and isinstance(last[-1], Path):
            last.append(one)
        else:
            batches.append([one])
    return batches


def _failure(result: Failure) -> str:
    """Return what is said of an input that failed, which not every error names."""
    return result.error if result.input in result.error else f"{result.input}: {result.error}"


def _line(result: Result) -> str:
    """Return what is said of one input: what was explained, and where to look."""
    if isinstance(result, (FeatureResult, ClipFeatureResult)):
        parts = [_relevance(entry) for entry in result.sequences]
        if isinstance(result, ClipFeatureResult):
            parts.append(f"on the frames → {result.sheet or result.maps[0].file}")
        return f"{result.input}: {'; '.join(parts)}"
    sure = ", ".join(dict.fromkeys(_how_sure(entry) for entry in result.maps))
    return f"{result.input}: {sure} → {result.sheet or result.maps[0].file}"


def _how_sure(entry: MapEntry | DriveEntry) -> str:
    confidence = entry.confidence if isinstance(entry, MapEntry) else None
    return f"{entry.target} {f'{entry.score:.3g}' if confidence is None else percent(confidence)}"


def _news(findings: Sequence[str], known: set[str]) -> list[str]:
    """Return a line for each finding; what holds for a layer or a model is said once, not of every input."""
    lines = [f"  {text}" for text in findings if text not in known]
    known.update(text for text in findings if not text.startswith("sample "))
    return lines


def _relevance(entry: SequenceEntry) -> str:
    count = len(entry.targets)
    what = f"{entry.targets[0]} {entry.scores[0]:.3g}" if count == 1 else f"{count} targets"
    when = ""
    if entry.settling is not None:
        step = entry.settling.step
        when = ", never settled" if step is None else f", settled at step {step}"
    return f"{entry.method}: {what}{when} → {entry.sheet or entry.file}"
