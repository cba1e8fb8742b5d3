"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
from click.shell_completion import CompletionItem

from chronocam.errors import ChronocamError, suggest
from chronocam.runs.terminal import SILENT

Camera: TypeAlias = tuple[float, float, float, float]
"""The intrinsics fx, fy, cx and cy, in pixels."""

OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-out"),
    show_default=True,
    help="Folder for the pictures and the JSON files.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON to stdout too.")
TRUST = click.option("--trust", is_flag=True, help="Allow the model's files to run code.")
DEVICE = click.option(
    "--device", help="Where a PyTorch model runs, such as cuda or cuda:1.  [default: where it is loaded]"
)
QUIET = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.__setitem__(SILENT, value),
    help="Say nothing but errors.",
)
ALIGN = click.option(
    "--align",
    type=click.Choice(["half_pixel", "receptive_field"]),
    default="half_pixel",
    show_default=True,
    hidden=True,
    help="Where the cells of a map lie in the picture.",
)
FAST = click.option(
    "--fast", is_flag=True, help="Run a faster copy of a PyTorch model, with its norms folded."
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["bf16"]),
    help="With --fast: run in bfloat16, where another class may be predicted.  [default: the model's]",
)
OPEN = click.option("--open", "opened", is_flag=True, help="Open the pages in a browser.")


_WANTS: Final = {
    "size": "Height x width of pictures as the model takes them, such as 66x200.",
    "mean": "Mean of each channel, or one for all, of values that --scale has scaled.",
    "std": "Standard deviation, likewise.",
    "scale": "What values from 0 to 255 are multiplied by, such as 1/255.",
    "range": "What 0 and 255 become, in place of scale, mean and std: --range=-1..1.",
    "channels": "Order of the colours: rgb, bgr, grey, yuv or bgr2yuv.",
    "frames": "How many frames a clip has.",
    "axes": "Order of the axes of one input: chw, hwc, cthw, tchw or thwc.",
    "labels": "File with the name of each output, a line each, or a JSON list.",
    "adapter": "How a detector's rows are read: by name, or by your own function package.module:function.",
    "boxes": "The form of a detector's rows: xyxy, cxcywh or xywh.",
}
"""What a model wants; see `chronocam.models.wants`."""


def wants(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what gives a command the options that say what a model wants, as one mapping of what was said.

    left_out: options that the command has by itself.
    """
    names = [name for name in _WANTS if name not in left_out]

    def with_wants(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def packed(*args: object, **options: Any) -> None:
            said = {name: options.pop(name) for name in names}
            command(*args, wants={name: text for name, text in said.items() if text is not None}, **options)

        for name in reversed(names):
            packed = click.option(f"--{name}", hidden=True, help=_WANTS[name])(packed)
        return packed

    return with_wants


class _Names(click.ParamType[str]):
    """A name of a list that takes long to import: asked for when one was typed, not for a help text.

    what: what a message calls it.
    command: the command that lists them all.
    """

    def __init__(self, name: str, what: str, command: str, names: Callable[[], Iterable[str]]) -> None:
        self.name, self._what, self._command, self._names = name, what, command, names

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name. Fails for one that does not exist."""
        known = sorted(self._names())
        if value not in known:
            hint = suggest(value, known)
            self.fail(f"no {self._what} `{value}`{hint}; `chronocam {self._command}` lists them", param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin like this."""
        return [CompletionItem(name) for name in sorted(self._names()) if name.startswith(incomplete)]


class _Spec(click.ParamType[str]):
    """The spec of a model; whether there is one is found out when it is loaded."""

    name = "SPEC"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the spec as it is."""
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the specs that begin like this, of the networks that are at hand."""
        from chronocam.runs.lists import bundled

        return [CompletionItem(spec) for spec in bundled() if spec.startswith(incomplete)]


def _methods() -> Iterable[str]:
    from chronocam.runs.methods import method_names

    return method_names()


METHOD = _Names("METHOD", "method", "methods", _methods)
"""The type of an option that takes a method of maps or of relevance."""

SPEC = _Spec()
"""The type of a model's spec, an argument where nothing else is one, `--model` beside inputs."""

MODEL = click.option(
    "--model", "spec", type=SPEC, required=True, help="`chronocam models` lists what there is."
)


class _Intrinsics(click.ParamType[Camera]):
    """Intrinsics as they are typed: `525,525,319.5,239.5`."""

    name = "FX,FY,CX,CY"

    def convert(
        self, value: str | Camera, param: click.Parameter | None, ctx: click.Context | None
    ) -> Camera:
        """Return the four numbers. Fails unless there are four, with positive focal lengths."""
        from chronocam.media.drives.intrinsics import check_intrinsics

        if isinstance(value, tuple):
            return value
        try:
            fx, fy, cx, cy = (float(part) for part in value.split(","))
            check_intrinsics((fx, fy, cx, cy))
        except ChronocamError as error:  # a ValueError too, so that it comes first
            self.fail(str(error), param, ctx)
        except ValueError:
            todo = "expected fx,fy,cx,cy, four numbers in pixels such as 525,525,319.5,239.5"
            self.fail(f"`{value}`: {todo}", param, ctx)
        return fx, fy, cx, cy


INTRINSICS = _Intrinsics()
"""The type of an option that takes fx, fy, cx and cy in pixels."""
