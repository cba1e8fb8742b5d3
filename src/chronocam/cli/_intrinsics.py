"""Intrinsics as they are typed: `525,525,319.5,239.5`."""

from __future__ import annotations

from typing import Any

import click

from chronocam.errors import ChronocamError


class _Intrinsics(click.ParamType[Any]):
    name = "FX,FY,CX,CY"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float, float]:
        """Return four numbers. Fails where there are others, or a focal length is not positive."""
        from chronocam.media.drives.intrinsics import check_intrinsics

        if isinstance(value, tuple):
            return value
        try:
            fx, fy, cx, cy = (float(part) for part in value.split(","))
            check_intrinsics((fx, fy, cx, cy))
        except ValueError:
            self.fail(
                f"`{value}` is not fx,fy,cx,cy, four numbers in pixels such as 525,525,319.5,239.5",
                param,
                ctx,
            )
        except ChronocamError as error:
            self.fail(str(error), param, ctx)
        return fx, fy, cx, cy


INTRINSICS = _Intrinsics()
"""An option's type: fx, fy, cx and cy in pixels."""
