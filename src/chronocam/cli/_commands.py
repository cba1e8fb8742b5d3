"""Groups that import a command when it is called or listed, and commands whose help begins with examples."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from importlib import import_module
from inspect import cleandoc
from pkgutil import iter_modules
from typing import Any, Final

import click

from chronocam.errors import suggest

ALL: Final = "chronocam.help-all"
"""Stands in a context's `meta` where its help shows everything."""


class Command(click.Command):
    """A command whose help shows examples first, and rare options and details only with `--help-all`.

    examples: command lines, one a line.
    details: paragraphs that the long help adds.
    """

    def __init__(self, *args: Any, examples: str, details: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples = cleandoc(examples).splitlines()
        self.details = cleandoc(details)
        if self.details or any(getattr(option, "hidden", False) for option in self.params):
            self.params.append(_help_all())

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first paragraph, uncut."""
        return " ".join((self.help or "").partition("\n\n")[0].split())

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; the rare ones are hidden unless everything is to be shown."""
        params = super().get_params(ctx)
        return [_shown(one) for one in params] if ctx.meta.get(ALL) else params

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the text."""
        _write_examples(formatter, self.examples)
        super().format_help_text(ctx, formatter)
        if ctx.meta.get(ALL) and self.details:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(self.details)


def _write_examples(formatter: click.HelpFormatter, lines: Sequence[str]) -> None:
    with formatter.section("Examples"):
        for line in lines:
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _shown(param: click.Parameter) -> click.Parameter:
    if not getattr(param, "hidden", False):
        return param
    # A copy: the command itself stays as it is for the next call in this process.
    shown = copy(param)
    vars(shown)["hidden"] = False
    return shown


def _help_all() -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[ALL] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()

    return click.Option(
        ["--help-all"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show every option, and exit.",
    )


class Commands(click.Group):
    """The commands of a package: one file each, found by being there, which defines `command`.

    package: the package's name.
    examples: command lines, one a line.
    """

    def __init__(self, *args: Any, package: str, examples: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.package = package
        self.examples = cleandoc(examples).splitlines()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the text."""
        _write_examples(formatter, self.examples)
        super().format_help_text(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the package's files."""
        modules = iter_modules(import_module(self.package).__path__)
        return sorted(module.name for module in modules if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None where no file has it."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{self.package}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed. Fails for one that does not exist, with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            vars(error)["message"] = error.message.rstrip(".") + suggest(args[0], self.list_commands(ctx))
            raise
