"""Options of the command line from what settings say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from chronocam.cli._options import INTRINSICS
from chronocam.errors import ChronocamError
from chronocam.lab.train.settings.base import Setting, Settings, settings_of

_Function = TypeVar("_Function", bound=Callable[..., Any])

_TYPES: Final[dict[type, click.ParamType[Any]]] = {
    Path: click.Path(file_okay=False, path_type=Path),
    tuple: INTRINSICS,
}
"""Types of values that click does not know by itself; a tuple is always the intrinsics of a camera."""


def options_of(cls: type[Settings]) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a command an option for every setting of a class."""

    def decorated(function: _Function) -> _Function:
        for setting in reversed(list(settings_of(cls))):  # click lists the last decorator first
            function = _option(setting)(function)
        return function

    return decorated


def _option(setting: Setting) -> Callable[[_Function], _Function]:
    option, name = setting.option, setting.name.replace("_", "-")
    text = f"{option.text.replace('`', '')}."
    if option.usual is not None:
        text += f"  [default: {option.usual}]"
    if setting.kind is bool and option.switch:
        return click.option(f"--{name}", is_flag=True, hidden=option.rare, help=text)
    if setting.kind is bool:
        return click.option(f"--{name}/--no-{name}", default=setting.default, hidden=option.rare, help=text)
    kind = click.Choice(option.choices) if option.choices else _TYPES.get(setting.kind, setting.kind)
    if setting.required:
        return click.option(f"--{name}", type=kind, required=True, help=text)
    return click.option(f"--{name}", type=kind, default=setting.default, hidden=option.rare, help=text)


@contextmanager
def missing_extra(extras: str) -> Iterator[None]:
    """Answer a library that is not installed with the line that installs it."""
    try:
        yield
    except ImportError as error:
        raise ChronocamError(f"training needs {error.name}; pip install 'chronocam[{extras}]'") from error
