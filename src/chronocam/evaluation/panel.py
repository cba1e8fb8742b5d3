"""Who is judged: methods at layers, functions, maps from elsewhere, and the controls that each must beat."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeAlias

import numpy as np

from chronocam.errors import ChronocamError, InputError, first_line
from chronocam.evaluation.case import OWN, Weights
from chronocam.evaluation.peers import is_peer, peers
from chronocam.explanation import Explanation
from chronocam.joint.look.facts import share_facts
from chronocam.joint.session import explain_all
from chronocam.maps.arrays import to_numpy
from chronocam.methods import Method, Saliency
from chronocam.methods._base import method_named
from chronocam.models import Loaded

Maker: TypeAlias = Callable[..., Method]
MapFunction: TypeAlias = Callable[[np.ndarray, Any], Any]
"""Takes inputs as the model does and the target, and returns maps `(batch, *grid)`."""

CONTROLS: Final = ("random", "centre", "edges", "randomised")


@dataclass(frozen=True)
class Row:
    """One of those that are judged.

    method: its name. layer: the layer's, `""` for what has none. control: whether it is one that others must
    beat.

    Example:
    >>> str(cc.evaluation.Row("gradcam", "conv2"))
    'gradcam at conv2'
    """

    method: str
    layer: str = ""
    control: bool = False

    def __str__(self) -> str:
        return f"{self.method} at {self.layer}" if self.layer else self.method


def names(rows: Sequence[Row]) -> list[str]:
    """Return how rows are called: without the layer where every method has one only."""
    methods = [row.method for row in rows]
    return [row.method if methods.count(row.method) == 1 else str(row) for row in rows]


@dataclass(eq=False)
class Panel:
    """All that are judged, bound to the model.

    makers: of the library's methods, by name and the layer asked for.
    functions: of maps from elsewhere. arrays: maps that are there already, `(*grid)` for each sample.
    options: of every method.
    """

    model: Any
    makers: list[tuple[str, Any, Maker]]
    functions: dict[str, MapFunction]
    arrays: dict[str, Sequence[np.ndarray]]
    options: dict[str, Any]
    seed: int
    scope: ExitStack
    rows: list[Row] = field(default_factory=list)
    without: str | None = None
    """Why there is no randomised model; None where there is one."""
    _bound: dict[Weights, list[Method]] = field(default_factory=dict)
    _library: list[Row] = field(default_factory=list)

    @property
    def reference(self) -> Row:
        """The row that others are compared with: the first one."""
        return self.rows[0]

    @property
    def judged(self) -> list[Row]:
        """The rows that are no controls."""
        return [row for row in self.rows if not row.control]

    def passes(self, row: Row) -> int:
        """Return how many forward passes a row's map takes by itself."""
        return int(row.method == "randomised" if row.control else row.method not in self.arrays)

    def first(self, inputs: Any, target: Any) -> tuple[list[Explanation], dict[Row, np.ndarray]]:
        """Explain a sample by all of the library's methods; the first time that finds the rows."""
        explained = self._explained(inputs, target, OWN)
        if not self.rows:
            method_names = [name for name, _, _ in self.makers]
            self._library = [Row(name, e.layer) for name, e in zip(method_names, explained, strict=True)]
            if len(set(self._library)) < len(self._library):
                raise InputError("a method is given twice at the same layer; give each once")
            elsewhere = [Row(name) for name in (*self.functions, *self.arrays)]
            controls = [Row(name, control=True) for name in self._controls()]
            self.rows = [*self._library, *elsewhere, *controls]
        return explained, {row: e.upsample()[:, 0] for row, e in zip(self._library, explained, strict=True)}

    def _controls(self) -> tuple[str, ...]:
        self.without = _cannot_be_random(self.model)
        return CONTROLS if self.without is None and self.makers else CONTROLS[:3]

    def maps(
        self, rows: Sequence[Row], inputs: Any, target: Any, weights: Weights = OWN
    ) -> dict[Row, np.ndarray]:
        """Return the maps of those methods and functions, `(batch, *grid)` each."""
        of_rows: dict[Row, np.ndarray] = {}
        numbers = [k for k, row in enumerate(self._library) if row in rows]
        if numbers:
            explained = self._explained(inputs, target, weights, numbers)
            for k, e in zip(numbers, explained, strict=True):
                of_rows[self._library[k]] = e.upsample()[:, 0]
        for row in rows:
            if row.method in self.functions and weights == OWN:
                of_rows[row] = _grids(self._called(row.method, inputs, target), row.method, _samples(inputs))
        return of_rows

    def _called(self, name: str, inputs: Any, target: Any) -> Any:
        try:
            return self.functions[name](inputs, target)
        except ChronocamError:
            raise
        except Exception as error:  # whatever it is, other samples may do
            raise InputError(f"`{name}` failed ({type(error).__name__}: {first_line(error)})") from error

    def randomised(self, inputs: Any, target: Any) -> np.ndarray:
        """Return the reference's map of the model with all of its weights random, `(*grid)`."""
        return self._explained(inputs, target, (1.0, False), [0])[0].upsample()[0, 0]

    def _explained(
        self, inputs: Any, target: Any, weights: Weights, which: Sequence[int] | None = None
    ) -> list[Explanation]:
        methods = self.bound(weights)
        some = methods if which is None else [methods[k] for k in which]
        explained = explain_all(some, inputs, target) if some else []
        for one in explained:
            if one.maps.shape[1] != 1:
                raise InputError(
                    f"a sample has {one.maps.shape[1]} targets; evaluate one target for each sample"
                )
        return explained

    def bound(self, weights: Weights = OWN) -> list[Method]:
        """Return the methods, of the model itself or of a copy with some of its weights random."""
        if weights not in self._bound:
            model = self.model if weights == OWN else random_model(self.model, weights, self.seed)
            methods = [
                make(model, layer, **self.options) if layer is not None else make(model, **self.options)
                for _, layer, make in self._layers(weights)
            ]
            if weights != OWN and methods:
                # Gradients show where cells lie, and may vanish under random weights: known facts are shared.
                share_facts(_bare(self.bound()[0]), _bare(methods[0]))
            self._bound[weights] = methods
        return self._bound[weights]

    def _layers(self, weights: Weights) -> list[tuple[str, Any, Maker]]:
        """Return the makers; in a random copy, of the layers that were found in the model itself."""
        if weights == OWN or not self._library:
            return self.makers
        makers = []
        for (name, layer, make), row in zip(self.makers, self._library, strict=True):
            at = layer if layer is not None or getattr(make, "default_layer", None) is not None else row.layer
            makers.append((name, at, make))
        return makers


def _is_of(method: Method, model: Any) -> bool:
    """Say whether a method is of a model, also where either is in a wrapper or runs as a copy."""
    of = method.model.model if isinstance(method.model, Loaded) else method.model
    return of is model or _bare(method) is _bare(Saliency(model))


def _bare(method: Method) -> Any:
    """Return the model of a method as its engine runs it, without wrappers."""
    return getattr(method.session.subject.engine, "model", None)


def panel(
    model: Any,
    methods: Sequence[Any] | Mapping[str, Any] | str,
    layers: str | Sequence[Any] | None,
    options: dict[str, Any],
    seed: int,
    scope: ExitStack,
) -> Panel:
    """Return who is judged.

    methods: names, method classes, methods with options of their own, `"captum:LayerGradCam"` and its like,
        functions; as a dict by their names also arrays of maps.

    Raises InputError for nothing, and for what is none of these.
    """
    named = _named(methods)
    if not named:
        raise InputError("there is nothing to evaluate: methods is empty")
    _check_names([name for name, given in named if not isinstance(given, Method)])
    places: list[Any] = [None] if layers is None else [layers] if isinstance(layers, str) else list(layers)
    if not places:
        raise InputError("layers is empty; name at least one, or leave it out")
    makers: list[tuple[str, Any, Maker]] = []
    functions: dict[str, MapFunction] = {}
    arrays: dict[str, Sequence[np.ndarray]] = {}
    for name, given in named:
        if isinstance(given, (Explanation, list, tuple)) or hasattr(given, "shape"):
            arrays[name] = _maps_elsewhere(name, given)
        elif isinstance(given, str) and is_peer(given):
            of_layers = peers(given, model, places)
            functions |= {key.replace(given, name, 1): function for key, function in of_layers.items()}
        elif isinstance(given, Method):
            if not _is_of(given, model):
                raise InputError(f"`{name}` is a method of another model than the one that is judged")
            makers.append((name, None, _Again(given)))
        elif isinstance(given, str) or _makes_methods(given):
            make = method_named(given) if isinstance(given, str) else given
            at_input = getattr(getattr(make, "func", make), "default_layer", None) == "input"
            makers += [(name, place, make) for place in ([None] if at_input else places)]
        elif callable(given):
            functions[name] = given
        else:
            raise InputError(
                f"methods hold {reprlib.repr(given)}; expected a name, a method, a function or maps"
            )
    if not makers:
        # The reference's grid, and the model's own scores, come of one of the library's methods.
        makers = [("gradcam", places[0], method_named("gradcam"))]
    return Panel(model, makers, functions, arrays, options, seed, scope)


def _check_names(called: Sequence[str]) -> None:
    """Raise InputError for a name that is given twice, and for that of a control."""
    for name in called:
        if called.count(name) > 1:
            raise InputError(
                f"`{name}` is given twice; give each once, functions and maps in a dict by names"
            )
        if name in CONTROLS:
            raise InputError(f"`{name}` is the name of a control; give yours another one, in a dict by names")


@dataclass(frozen=True, eq=False)
class _Again:
    """Makes a method that was given as an object, for a model of the same layers."""

    given: Method

    @property
    def default_layer(self) -> str | None:
        """The layer that it takes where it names none."""
        return self.given.default_layer

    @property
    def keywords(self) -> dict[str, Any]:
        """Its options."""
        return {one.name: getattr(self.given, one.name) for one in fields(self.given) if one.name != "model"}

    def __call__(self, model: Any, layer: Any = None, **options: Any) -> Method:
        own = self.given.conv_layer
        # A module is one of its own model; paths are the same in all.
        layer = own if layer is None or isinstance(own, (str, list, tuple)) else layer
        return replace(self.given, model=model, conv_layer=layer, **options)


def _maps_elsewhere(name: str, given: Any) -> Sequence[np.ndarray]:
    """Return maps that are there already, `(*grid)` for each sample."""
    if isinstance(given, Explanation):
        if given.maps.shape[1] != 1:
            raise InputError(
                f"`{name}` explains {given.maps.shape[1]} targets of each sample; give an explanation of one"
            )
        return list(np.asarray(given.upsample()[:, 0]))
    whole = given if isinstance(given, (list, tuple)) else np.atleast_1d(to_numpy(given))
    maps = [np.asarray(to_numpy(one) if hasattr(one, "shape") else one) for one in whole]
    for one in maps:
        if one.dtype.kind not in "biuf":
            raise InputError(f"`{name}` holds {one.dtype}; expected maps of numbers, (sample, *grid)")
    return maps


def _named(methods: Any) -> list[tuple[str, Any]]:
    if isinstance(methods, Mapping):
        return [(str(name), given) for name, given in methods.items()]
    if isinstance(methods, (str, Method)) or callable(methods):
        methods = [methods]
    if not isinstance(methods, Iterable):
        raise InputError(f"methods is {reprlib.repr(methods)}; expected names, methods, functions or maps")
    return [(_name(given), given) for given in methods]


def _name(given: Any) -> str:
    if isinstance(given, str):
        return given
    inner = getattr(given, "func", given)
    kind = inner if isinstance(inner, type) else type(inner)
    if issubclass(kind, Method) and not hasattr(kind, "name"):
        raise InputError(
            f"{kind.__name__} has no name; give the class a `name`, by which its maps are called"
        )
    return str(getattr(inner, "name", None) or getattr(inner, "__name__", type(given).__name__))


def _makes_methods(given: Any) -> bool:
    inner = getattr(given, "func", given)
    return isinstance(inner, type) and issubclass(inner, Method)


def _grids(maps: Any, name: str, samples: int) -> np.ndarray:
    try:
        values = np.asarray(to_numpy(maps) if hasattr(maps, "shape") else maps, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`{name}` returned a {type(maps).__name__}; expected maps (batch, *grid)"
        ) from error
    if values.ndim < 2 or len(values) != samples:
        raise InputError(
            f"`{name}` returned shape {values.shape} for {samples} inputs; expected maps (batch, *grid)"
        )
    return values


def _samples(inputs: Any) -> int:
    several = inputs.values() if isinstance(inputs, Mapping) else inputs
    return len(next(iter(several)) if isinstance(inputs, (Mapping, tuple)) else inputs)


def edges(laid: np.ndarray) -> np.ndarray:
    """Return the strength of edges in an input `(channel, *grid)`: Sobel's, over its rows and columns."""
    from scipy.ndimage import sobel

    grey = laid.mean(axis=0)
    axes = range(max(0, grey.ndim - 2), grey.ndim)
    return np.asarray(np.sqrt(sum(sobel(grey, axis=axis) ** 2 for axis in axes)))


def random_model(model: Any, weights: Weights, seed: int) -> Any:
    """Return a copy of a model with some of its weights random, counted from the output down."""
    if type(model).__module__.startswith("keras") or hasattr(model, "get_config"):
        return _random_keras(model, weights)
    from chronocam.metrics.random_weights import parameterised, random_copy

    share, alone = weights
    return random_copy(model, max(1, round(share * len(parameterised(model)))), seed, alone)


def _random_keras(model: Any, weights: Weights) -> Any:
    import keras

    share, alone = weights
    copy = keras.models.clone_model(model)
    layers = [layer for layer in copy.layers if layer.weights][::-1]
    count = max(1, round(share * len(layers)))
    random = layers[count - 1 : count] if alone else layers[:count]
    for layer in layers:
        if layer not in random:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return copy


def _cannot_be_random(model: Any) -> str | None:
    if type(model).__name__ == "BlackBox":
        return "a black box has no weights that could be made random"
    return None
