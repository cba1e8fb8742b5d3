"""What the commands that draw channels share: options, and files beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from chronocam.errors import InputError
from chronocam.runs.drives.networks import networks_of
from chronocam.runs.job import write_json

OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-out"),
    show_default=True,
    help="Folder for pictures and JSON.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON to stdout too.")
TRUST = click.option("--trust", is_flag=True, help="Let the model's files run code.")


def network(spec: str, trust: bool) -> Any:
    """Load a model of one picture or clip; raises InputError for networks of several frames."""
    from chronocam.models import load

    loaded = load(spec, trust=trust)
    if networks_of(loaded.model) is not None:
        todo = "look at one of them in Python, with cc.features and the networks' attributes pose and depth"
        raise InputError(f"`{spec}` holds networks for depth and motion, which take several frames; {todo}")
    return loaded


def write_sheet(
    drawn: Any, out: Path, name: str, spec: str, result: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Write the sheet and the numbers of a record as NAME.png and NAME.json, and return the numbers."""
    picture = drawn.save(out / f"{name}.png", **options)
    result = {**result, "picture": str(picture)}
    write_json(out, name, spec, result)
    return result


def tell(spec: str, results: list[dict[str, Any]], as_json: bool) -> None:
    """Say on stderr which pictures there are, and print the numbers to stdout where they are asked for."""
    for result in results:
        click.echo(f"{result['layer']} → {result['picture']}", err=True)
        for finding in result.get("diagnostics", ()):
            click.echo(f"  {finding}", err=True)
    if as_json:
        click.echo(json.dumps({"model": spec, "results": results}, indent=2))
