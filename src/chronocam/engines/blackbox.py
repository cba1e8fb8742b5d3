"""Models of which only the scores are seen: any function from arrays to scores."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NoReturn, TypeGuard

import numpy as np

from chronocam.engines.base import Adds, LayerCall, Learned, Speechless, TextTower
from chronocam.engines.geometry import UnknownGeometry
from chronocam.engines.misfit import FAILURES, failure
from chronocam.engines.outputs import scores_in
from chronocam.engines.recording import Call, Feed, Recording, Request, Result, Resumed, Score, as_given
from chronocam.errors import ChronocamError, InputError, LayerError, ModelError
from chronocam.layouts.base import Stem
from chronocam.maps.arrays import to_numpy
from chronocam.types import INPUT, Array, BlackBox, Inputs

AXES = ("chw", "hwc", "hw", "cthw", "tchw", "thwc", "thw", "cdhw", "dhwc", "dhw", "ct", "tc", "t", "tf")
"""Orders of the axes of one input: channel, time, depth, height, width, feature."""


def blackbox(f: Callable[..., Any], labels: Sequence[str] | None = None, axes: str | None = None) -> BlackBox:
    """Return a model of any function from arrays to scores, for the methods that only look at scores.

    f: gets a batch as a NumPy array (several as several arguments, named ones by name) and returns scores
        `(batch, class)`, or what a callable target makes scores of. Batching and repeating calls to a remote
        model are its own affair; `batch_size=` of a method says how many inputs it gets at once.
    labels: the names of the classes.
    axes: the order of the axes of one input, a letter each: `"chw"`, `"hwc"` or `"hw"` of a picture,
        `"cthw"`, `"tchw"`, `"thwc"` or `"thw"` of a clip, `"cdhw"`, `"dhwc"` or `"dhw"` of a volume, `"ct"`,
        `"tc"` or `"t"` of a signal, `"tf"` of a sequence whose steps have features. None goes by the number
        of channels, which says enough of pictures and clips.

    RISE, Occlusion, LIME, KernelSHAP and others that mask the input take it. Those that need a layer raise
    LayerError. What it returns is the score: before a softmax, if it can be had.

    Raises ModelError for what cannot be called, and for other axes.

    Example:
    >>> box = cc.blackbox(lambda x: x.mean((2, 3)), labels=["red", "green", "blue"])
    >>> cc.Occlusion(box, baseline="zero").explain(images, "green").maps.shape
    (2, 1, 32, 32)
    """
    if not callable(f):
        raise ModelError(f"a black box is a function from arrays to scores; got a {type(f).__name__}")
    if axes is not None and axes not in AXES:
        raise ModelError(f"axes={axes!r} is not an order of axes; expected one of {', '.join(AXES)}")
    return BlackBox(f, None if labels is None else list(labels), axes=axes)


class BlackBoxEngine(Speechless, UnknownGeometry):
    """Runs a `BlackBox`: scores alone, on NumPy arrays."""

    framework = "black box"
    towers: TextTower | None = None
    features: int | None = None
    rescales = False
    values_at_once: int | None = None
    inputs: Sequence[str] = ()

    def __init__(self, model: BlackBox, output_layer: Any = None) -> None:
        self.model = model
        self.output_layer = output_layer
        self.learned: Learned = Learned()
        self.labels: Sequence[str] | None = model.labels
        self.channels_last: bool = model.channels_last
        self.axes: str | None = model.axes
        self.stem: Stem | None = None if model.stem is None else Stem(*model.stem)
        self.feed: Feed = as_given

    def structure(self) -> Hashable:
        """Return None: nothing is known of what it is made of."""
        return None

    def hooks(self) -> Hashable:
        """Return nothing, since there are none."""
        return ()

    def resolve(self, layer: object) -> str:
        """Return the input's name. Raises LayerError for anything else."""
        if layer == INPUT:
            return INPUT
        self._refuse()

    def kernels(self) -> dict[str, Array]:
        """Return none."""
        return {}

    def biases(self) -> dict[str, Adds]:
        """Return none."""
        return {}

    def adapt(self, inputs: Inputs) -> Inputs:
        """Return inputs as NumPy arrays."""
        if isinstance(inputs, Mapping):
            return {name: self.adapt(one) for name, one in inputs.items()}
        if isinstance(inputs, (tuple, list)):
            return type(inputs)(self.adapt(one) for one in inputs)
        return to_numpy(inputs) if hasattr(inputs, "dtype") else np.asarray(inputs)

    def trace(
        self,
        inputs: Inputs,
        score: Score | None = None,
        call: Call | None = None,
        reads: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> list[LayerCall]:
        """Raise LayerError: no layer is known."""
        self._refuse()

    def order(self, layer: str) -> None:
        """Return None: nothing is known."""

    def frame_wise(self, layer: str) -> bool:
        """Return False: nothing is known."""
        return False

    def obstacle(self) -> str:
        """Say that nothing is seen but scores."""
        return f"{self.model.why}; choose rise, occlusion, lime or kernelshap"

    def record(self, inputs: Inputs, score: Score, request: Request) -> Recording:
        """Return the scores, and the inputs themselves. Raises LayerError for what needs layers."""
        if request.differentiates or request.sees_attention or set(request.layers) - {INPUT} or request.reads:
            self._refuse()
        scores = self.scores(inputs, score, request.call)
        masked = _entry(inputs, request.entry)
        if not _is_float(masked):
            raise InputError(
                f"inputs are {masked.dtype}, and masks give what lies between; give floating-point numbers, "
                f'and let the function turn them back: x.round().astype("{masked.dtype}")'
            )
        return Recording(scores, {INPUT: [masked]})

    def scores(
        self, inputs: Inputs, score: Score, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Array:
        """Return the scores of a batch."""
        raw = self._chosen(_plain((call or _called)(self.model.function, _copied(inputs))))

        def logits() -> Array:
            if isinstance(raw, np.ndarray) and (raw.dtype.kind != "f" or not raw.ndim):
                raise ModelError(f"the function returns {_kind(raw)}; return scores (batch, class)")
            if _are_rows(raw, inputs):
                what = f"a list of {len(raw)} rows, one per sample"
                raise ModelError(f"the function returns {what}; return one array of them: np.stack(rows)")
            parts = (
                raw.values() if isinstance(raw, dict) else raw if isinstance(raw, (tuple, list)) else [raw]
            )
            return scores_in(raw, list(parts), _is_float, strict=True)

        return score(Result(raw, logits))

    def resume(
        self, inputs: Inputs, layer: str, call: Call | None = None, reads: Sequence[str] = ()
    ) -> Resumed:
        """Raise LayerError: no layer is known from which the model could be resumed."""
        self._refuse()

    def _chosen(self, raw: Any) -> Any:
        """Return the output that output_layer names, where several have names; all where it is not given."""
        if self.output_layer is None:
            return raw
        if not isinstance(raw, Mapping):
            raise LayerError(f"{self.model.why}; its output has no name, leave output_layer out")
        if self.output_layer not in raw:
            raise LayerError(f"no output `{self.output_layer}`; expected one of {', '.join(map(str, raw))}")
        return raw[self.output_layer]

    def _refuse(self) -> NoReturn:
        todo = "choose a method that only looks at scores: rise, occlusion, lime or kernelshap"
        raise LayerError(f"{self.model.why}; {todo}")


def _called(function: Callable[..., Any], inputs: Inputs) -> Any:
    try:
        if isinstance(inputs, Mapping):
            return function(**inputs)
        return function(*inputs) if isinstance(inputs, (tuple, list)) else function(inputs)
    except FAILURES as error:
        if isinstance(error, ChronocamError):
            raise
        raise InputError(failure(inputs, error)) from error


def _copied(inputs: Inputs) -> Inputs:
    """Return copies of inputs, into which a function may write."""
    if isinstance(inputs, Mapping):
        return {name: _copied(one) for name, one in inputs.items()}
    return type(inputs)(map(_copied, inputs)) if isinstance(inputs, (tuple, list)) else np.array(inputs)


def _plain(raw: Any) -> Any:
    """Return what a function returned as NumPy arrays of their own: it may fill the same ones next time."""
    if isinstance(raw, Mapping):
        return {key: _plain(one) for key, one in raw.items()}
    if isinstance(raw, (tuple, list)) and any(isinstance(x, Mapping) or getattr(x, "ndim", 0) for x in raw):
        return type(raw)(map(_plain, raw)) if type(raw) in (tuple, list) else tuple(map(_plain, raw))
    if hasattr(raw, "toarray"):  # a sparse matrix
        raw = raw.toarray()
    try:
        array = np.array(to_numpy(raw) if hasattr(raw, "dtype") else raw)
    except ValueError:  # lists of several lengths
        return tuple(map(_plain, raw))
    # Rows of whole numbers are scores, such as votes; one for each sample would be the number of its class.
    return array.astype(np.float64) if array.dtype.kind in "iub" and array.ndim > 1 else array


def _are_rows(raw: Any, inputs: Inputs) -> bool:
    """Say whether a list holds one row of scores for each sample, and not outputs with a number for each."""
    several = inputs.values() if isinstance(inputs, Mapping) else inputs
    samples = len(next(iter(several)) if isinstance(inputs, (Mapping, tuple, list)) else inputs)
    if not isinstance(raw, list) or len(raw) != samples:
        return False
    return all(getattr(row, "ndim", 0) == 1 and len(row) != samples for row in raw)


def _kind(raw: np.ndarray) -> str:
    """Return in words what no scores are."""
    if raw.dtype.kind in "iub":
        return f"{raw.dtype} {raw.shape}, such as numbers of classes" if raw.ndim else f"the number {raw}"
    if not raw.ndim:
        return f"{raw.item()!r:.40}" if raw.dtype.kind in "OUS" else f"the number {raw}"
    return f"{raw.dtype.name} {raw.shape}, such as {raw.ravel()[0]!r:.40}" if raw.size else "nothing"


def _is_float(x: Any) -> TypeGuard[np.ndarray]:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _entry(inputs: Inputs, entry: Sequence[int | str] | None) -> Array:
    for key in entry or ():
        inputs = inputs[key]
    return inputs
