"""Maps averaged over several views of each picture: mirrored, nearer, farther, cut."""

from __future__ import annotations

from chronocam.errors import InputError
from chronocam.joint.look.look import Look
from chronocam.joint.passes.view import LayerView
from chronocam.joint.recipe import Recipe
from chronocam.maps.views import mean_of_views, views_named
from chronocam.types import Array, Target


def maps_of(method: Recipe, view: LayerView) -> Array:
    """Return a method's maps of a layer, averaged over the views that `views=` names.

    Raises InputError for maps without rows and columns.
    """
    maps = view.unfolded(method.maps(view))
    if method.views is None:
        return maps
    if maps.ndim < 4:
        raise InputError(
            f"maps of {method.name} have no rows and columns here, which views= move; drop views="
        )
    seen, every, half = views_named(method.views), [maps], [view.interval]
    for one in seen[1:]:
        moved = view.moved(one.of)
        every.append(moved.unfolded(method.maps(moved)))
        half.append(moved.interval)
        view.notes.extend(moved.notes)
    if view.interval is not None:  # a mean is off by no more than the mean of what its parts are off by
        view.interval = mean_of_views(seen, half)
    return mean_of_views(seen, every)


def refuse_views(look: Look, target: Target) -> None:
    """Raise InputError for inputs without rows and columns, and for a target at a place, which views move."""
    if len(look.grid) < 2:
        raise InputError(f"views= are for pictures and clips; inputs have shape {look.shape}; drop views=")
    if target.has_place:
        raise InputError(
            "views= move the place that a region or a box marks; drop views=, or explain another target"
        )
