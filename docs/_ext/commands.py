"""The directive `commands`: every command of the command line, as `--help` tells it."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import click
from plain_docstrings import escaped
from sphinx.util.docutils import SphinxDirective

from chronocam.cli import main
from chronocam.cli._commands import ALL, Command


def told(context: click.Context) -> Iterator[tuple[click.Context, list[str]]]:
    """Yield every command below a context, with its page in reStructuredText."""
    command = context.command
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        child = command.get_command(context, name)
        assert child is not None
        within = click.Context(child, context, name)
        if isinstance(child, click.Group):
            yield from told(within)
        else:
            yield within, list(_page(within))


def _page(context: click.Context) -> Iterator[str]:
    yield from (
        "::",
        "",
        f"   {context.command.get_usage(context).removeprefix('Usage: ')}".replace("\n", " "),
        "",
    )
    assert isinstance(context.command, Command)
    yield from ("::", "", *(f"   {line}" for line in context.command.examples), "")
    text = f"{cleandoc(context.command.help or '')}\n\n{context.command.details}"
    yield from escaped(text).replace("\b", "").splitlines()
    yield ""
    context.meta[ALL] = True
    options = [option for option in context.command.get_params(context) if isinstance(option, click.Option)]
    for option in options:
        record = option.get_help_record(context)
        if record is not None and not {"--help", "--help-all"} & {*option.opts}:
            yield from (f"``{record[0]}``", f"   {escaped(' '.join(record[1].split()))}", "")


class Commands(SphinxDirective):
    """Sections, one for each command."""

    def run(self) -> list[Any]:
        from docutils import nodes

        made = []
        for context, lines in told(click.Context(main, info_name="chronocam")):
            title = context.command_path
            section = nodes.section(ids=[nodes.make_id(title)], names=[title])
            section += nodes.title(title, title)
            section += self.parse_text_to_nodes("\n".join(lines))
            made.append(section)
        return made


def setup(app: Any) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
