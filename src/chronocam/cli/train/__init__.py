"""`chronocam train`: one file per kind of network, each found by being here."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import click


@click.group("train")
def command() -> None:
    """Train networks on data of your own."""


for _module in iter_modules(__path__):
    command.add_command(import_module(f"{__name__}.{_module.name}").command)
