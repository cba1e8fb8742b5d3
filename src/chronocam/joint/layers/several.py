"""Models of several inputs: which of them a layer's map is of, and which call of the layer that is.

A layer that both branches of a siamese network share is called once for each, and in an order that the graph
decides. So each input is moved by itself, and the calls are watched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from chronocam.errors import InputError, LayerError
from chronocam.joint.inputs.batches import arrays_of, is_floating
from chronocam.joint.look.look import Look
from chronocam.joint.look.ramps import outputs_of
from chronocam.maps.arrays import to_numpy
from chronocam.types import INPUT

On: TypeAlias = int | str | None
"""What `on=` takes: the number or the name of an input."""


@dataclass(frozen=True)
class Place:
    """Where a map comes from.

    layer: as the engine knows it; its calls are numbered as they run.
    look: at the input that the map is of.
    note: what is to be said of the choice.
    """

    layer: str
    look: Look
    note: str | None = None


def look_on(look: Look, on: On) -> Look:
    """Return the look at the input that `on=` names. Raises InputError for an unknown one."""
    if on is None:
        return look
    names = names_of(look)
    known = ", ".join(f"`{name}`" for name in names)
    if on in names:
        which = names.index(str(on))
    elif isinstance(on, (int, np.integer)) and not isinstance(on, bool) and -len(names) <= on < len(names):
        which = int(on) % len(names)
    else:
        raise InputError(
            f"on={on!r} is not one of the {len(names)} inputs; expected an index, or one of {known}"
        )
    shape = tuple(look.arrays[which].shape)
    if len(shape) < 2:
        raise InputError(f"on={on!r} has shape {shape}, and no places for a map; expected another of {known}")
    return replace(look, which=which)


def names_of(look: Look) -> list[str]:
    """Return the names of the inputs, in order: keys of dicts, and else what the model calls them."""
    inputs = look.inputs
    if isinstance(inputs, Mapping) and all(hasattr(value, "shape") for value in inputs.values()):
        return list(map(str, inputs))
    count = len(arrays_of(inputs))
    names: Sequence[str] = look.engine.inputs
    flat = not isinstance(inputs, (tuple, list)) or all(hasattr(value, "shape") for value in inputs)
    return list(names[:count]) if flat and len(names) >= count else list(map(str, range(count)))


def place_of(look: Look, layer: str, on: On, by_feature: bool = False) -> Place:
    """Return where the map of a layer comes from; found out once per layer and size of the inputs.

    A call that depends on one input gives a map of that input, and calls are numbered by their inputs. Maps
    of a sequence itself are of each feature.

    by_feature: whether inputs `(batch, time, feature)` are a sequence where the model does not say it.
    Raises LayerError where the layer does not depend on the input that `on=` names, InputError for an input
    of a function that may be a sequence or a signal.
    """
    if layer == INPUT and _is_of_features(look, by_feature):
        look = replace(look, by_feature=True)
    arrays = look.arrays
    grids = [i for i, x in enumerate(arrays) if is_floating(x) and len(x.shape) > 2]
    if len(grids) < 2 or look.call is not None:
        return Place(layer, look)
    if layer == INPUT:
        return Place(layer, look, f"the map is of input {names_of(look)[look.number]}")
    path, _, number = layer.partition("#")
    seen = look.subject.once(("inputs of", path, look.sizes), lambda: _seen(look.few(1), path, grids))
    return _chosen(look, layer, int(number) if number else None, seen, on is not None)


def _is_of_features(look: Look, by_feature: bool) -> bool:
    """Say whether each feature of the main input is a place, as of a sequence, and not a channel."""
    engine = look.engine
    if look.of_sequence:
        return True
    if len(look.shape) != 3 or engine.axes is not None:
        return False
    if not by_feature and engine.framework == "black box" and engine.stem is None:
        raise InputError(
            f"one input has shape {look.shape[1:]}, which may be steps and their features, or channels of a "
            'signal; say cc.blackbox(f, axes="tf"), "ct" or "tc"'
        )
    return by_feature and (engine.stem is None or look.channel_axis == 2)


def _chosen(look: Look, layer: str, number: int | None, seen: list[set[int]], on: bool) -> Place:
    main, path, names = look.number, layer.partition("#")[0], names_of(look)
    order = list(range(len(seen)))
    distinct = {tuple(inputs) for inputs in seen}
    siamese = len(distinct) > 1 and all(len(inputs) == 1 for inputs in seen)
    if siamese:
        order.sort(key=lambda call: min(seen[call]))
    if number is not None and number >= len(order):
        return Place(layer, look)  # the engine says how many calls there are
    own = [call for call in order if main in seen[call]] if on else order
    if on and (not own or (number is not None and order[number] not in own)):
        raise LayerError(f"layer `{layer}` does not depend on input {names[main]}; choose one that does")
    call = own[-1] if number is None else order[number]
    if seen[call] and main not in seen[call]:
        main = min(seen[call])
    named = f"{path}#{call}" if siamese else layer
    return Place(named, replace(look, which=main), f"the map at `{layer}` is of input {names[main]}")


def _seen(look: Look, path: str, grids: Sequence[int]) -> list[set[int]]:
    """Return, per call of a layer, the inputs on which it depends."""
    base = outputs_of(look, [path])[path]
    seen: list[set[int]] = [set() for _ in base]
    for which in grids:
        one = replace(look, which=which)
        x = to_numpy(one.main).astype(np.float64)
        noise = np.random.default_rng(0).standard_normal(x.shape) * (x.std() or 1.0)
        for inputs, before, after in zip(
            seen, base, outputs_of(one.moved(x + noise), [path])[path], strict=True
        ):
            if before.shape == after.shape and not np.allclose(before, after):
                inputs.add(which)
    return seen
