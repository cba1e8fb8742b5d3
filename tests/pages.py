"""The code of documentation pages: `python tests/pages.py PAGE` runs a page's Python in an empty folder.

Fenced `python` blocks run in order in one namespace; what a page prepares unseen stands in comments that begin
`<!-- setup`. Of `sh` blocks, lines that begin with `chronocam` are taken.
"""

import os
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

OPENINGS = {"```python": ("python", "```"), "```sh": ("sh", "```"), "<!-- setup": ("python", "-->")}


@dataclass(frozen=True)
class Block:
    """A block of a page: `python` or `sh`, its text, and the line of the page that it begins after."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if line.strip() in OPENINGS:
            kind, closing = OPENINGS[line.strip()]
            body: list[str] = []
            for _, inner in lines:
                if inner.strip() == closing:
                    break
                body.append(inner)
            else:
                raise AssertionError(f"{page.name}:{number}: the block has no end")
            yield Block(kind, textwrap.dedent("\n".join(body)), number)


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each `chronocam` line of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["chronocam"]:
            yield words[1:]


def parse(arguments: list[str]) -> None:
    """Parse a command line as click does; raises a UsageError for what does not exist, runs nothing."""
    from chronocam.cli import main

    command: click.Command = main
    context, rest = click.Context(main), arguments
    while isinstance(command, click.Group) and not rest[0].startswith("-"):
        name, found, rest = command.resolve_command(context, rest)
        assert name is not None
        assert found is not None
        command, context = found, click.Context(found, context, name)
    command.make_context(command.name, list(rest), parent=context.parent)


def runs_offline(arguments: list[str]) -> bool:
    """Say whether a command line is of a bundled network, or of a record that the page has made."""
    return any(a.startswith("chronocam:") or (a.endswith("model.json") and Path(a).exists()) for a in arguments)


def run(arguments: list[str]) -> None:
    """Run a command line; raises AssertionError with what it printed where it fails."""
    from click.testing import CliRunner

    from chronocam.cli import main

    result = CliRunner().invoke(main, arguments)
    if result.exit_code:
        raise AssertionError(f"chronocam {shlex.join(arguments)}: {result.output}") from result.exception


def run_page(page: Path, setups: dict[str, str]) -> None:
    """Run a page in an empty folder: its Python, and the command lines that need no network.

    setups: code that runs before the first block that holds the key.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    waiting, home = dict(setups), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks(page):
                for key in [key for key in waiting if key in block.text]:
                    exec(compile(waiting.pop(key), f"setup of {page.name}", "exec"), names)
                _run_block(block, page, names)
        finally:
            os.chdir(home)
    if waiting:
        raise AssertionError(f"{page.name} no longer holds {', '.join(map(repr, waiting))}; see SETUPS")


def _run_block(block: Block, page: Path, names: dict[str, object]) -> None:
    if block.kind == "python":
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        return
    for arguments in commands(block):
        if runs_offline(arguments):
            run(arguments)


SETUPS: dict[str, dict[str, str]] = {}

if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve(), SETUPS.get(Path(sys.argv[1]).name, {}))
