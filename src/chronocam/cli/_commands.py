"""Groups of commands that import a command when it is called, or listed in a help text."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click


class Commands(click.Group):
    """The commands of a package: one file each, found by being there, which defines `command`.

    package: the package's name.
    """

    def __init__(self, *args: Any, package: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.package = package

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
