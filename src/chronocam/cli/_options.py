"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import click

from chronocam.errors import ChronocamError

Camera: TypeAlias = tuple[float, float, float, float]
"""The intrinsics fx, fy, cx and cy, in pixels."""

OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("chronocam-out"),
    show_default=True,
    help="Folder for the pictures and the JSON files.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Also print the results as JSON to stdout.")
TRUST = click.option("--trust", is_flag=True, help="Allow the model's files to run code.")
MODEL = click.option("--model", "spec", required=True, help="Model spec, such as torchvision:resnet50.")


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
