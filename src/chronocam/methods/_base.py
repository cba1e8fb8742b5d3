"""What a method is: its options, what it needs recorded, and how captures become maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, TypeAlias

import numpy as np
from jaxtyping import Float

from chronocam._repr import ShortRepr
from chronocam.errors import InputError, LayerError, check_whole, suggest
from chronocam.explanation import Explanation
from chronocam.joint.session import Session
from chronocam.maps.arrays import to_numpy
from chronocam.maps.combine import Reduce, over_channels, per_target, weighted_sum
from chronocam.models.specs import Loaded
from chronocam.targets.labels import names_of
from chronocam.types import INPUT, Array, Capture, Change, Inputs, Need, Target, TargetInfo, View

_METHODS: dict[str, type[Method]] = {}
METHODS: Mapping[str, type[Method]] = MappingProxyType(_METHODS)
"""Every method by its command-line name; a class with a `name` is added by being defined."""

_ROUNDED: Final = 1e-6  # of a score, which sums of single precision may be off
COMPLETE: Final = 1e-3
"""By what share of its rise a score may differ from what is attributed, unsaid."""

Maps: TypeAlias = Array
"""Maps `(batch, target, *grid)`."""


@dataclass(kw_only=True, eq=False)
class Method(ShortRepr):
    """A way to make maps of a model, bound to that model.

    model: a `torch.nn.Module`, a `keras.Model` that is built, or what `cc.models.load` returns, whose
        preprocessing and labels are used.
    conv_layer: dotted path, layer object, index of a top-level layer, or a list of them, whose maps are
        fused; `"fpn[1]"` or `"fpn[p3]"` is one of several outputs of a layer, by index or key. None
        picks the last layer that still has a grid and that the score depends on.
    output_layer: where scores are read (path, object or index); None is the model's output, before a final
        softmax.
    operator: `g(model, inputs, targets) -> scores (batch,)`, or the name of a task.
    batch_size: how many samples go through the model at once; None is all of them.
    layout: how the layer's output becomes `(batch, channel, *grid)`; None infers it from the shapes.
    align: where the cells of the map lie in the input: `"half_pixel"` tiles the input evenly,
        `"receptive_field"` puts each cell at the true centre of what it sees.
    chunk_frames: how many frames of a long clip the 2D network under an RNN sees at once; None is all of
        them. The gradients are the same.
    detach_attention: hold attention weights over the frames of a clip constant, so that evidence flows
        through what they weigh and not through the weights.
    labels: the names of the classes, so that targets can be given by name; None takes those that the model
        carries.
    preprocess: makes the model's input of a picture (or `Clip`), without a batch axis, such as
        `loaded.preprocess`; with it, inputs may be PIL images, clips, paths, and lists of them.
    on: which of several inputs is explained, by index or name; None is the one that the layer comes from. In
        models of two towers `"text"` is the captions: maps `(batch, target, word)`, of methods of attention.
    frames: how many frames a clip has, for a model that takes them as pictures: as rows
        `(batch·time, channel, height, width)`, or stacked in the channels, `(batch, time·channel, height,
        width)`. Targets and maps are then of clips.
    fuse: how maps of a list of layers become one: `"max"` as in the LayerCAM paper, their `"product"`, which
        keeps what all layers agree on, or their `"mean"`; each is scaled to its largest magnitude.
    views: average the maps of several views of each picture or clip, moved back: `"flip"` (mirrored left to
        right), `"scale"` (from 0.8 of each side to 1.25), `"crop"` (four corners of 0.8), joined by `+`. Each
        view costs as much as the picture itself; targets and scores are the picture's.
    fast: run a copy of a PyTorch model, with norms folded into the convolutions before them and channels
        last: the same maps but for rounding. It takes the memory of the weights once more, and is made anew
        when they change.
    precision: `"bf16"` runs that copy in bfloat16, where another class may be predicted; None is the model's
        own precision.

    An option may be set later, as an attribute; it counts from the next call on.

    Raises LayerError for an unknown layer.

    Example:
    >>> method = cc.methods.METHODS["gradcam"](model, "conv2")
    >>> isinstance(method, cc.methods.Method), method.explain(images).maps.shape
    (True, (2, 1, 8, 8))
    """

    model: Any = field(kw_only=False)
    conv_layer: Any = field(default=None, kw_only=False)
    output_layer: Any = None
    operator: Callable[..., Array] | str | None = None
    batch_size: int | None = 32
    layout: Any = None
    align: str = "half_pixel"
    chunk_frames: int | None = None
    detach_attention: bool = False
    labels: Sequence[str] | None = None
    preprocess: Callable[[Any], Array] | None = None
    on: int | str | None = None
    frames: int | None = None
    fuse: str = "max"
    views: str | None = None
    fast: bool = False
    precision: str | None = None

    name: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = (Need(),)
    default_layer: ClassVar[str | None] = None
    """The layer for `conv_layer=None`; None picks the last with a grid."""
    maps_input: ClassVar[bool] = False
    """Whether maps lie on the input's grid wherever the layer is."""
    class_agnostic: ClassVar[bool] = False
    """Whether the map is the same for every target, so that a model without a predicted class needs none."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            _METHODS[cls.name] = cls

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Refuse options given by position, as other libraries take them in other orders."""
        if len(arguments) > 2:
            raise TypeError(
                f"{cls.__name__} takes the model and conv_layer by position, and {len(arguments)} arguments "
                f"were given; give the others by name: {cls.__name__}(model, conv_layer, output_layer=…, "
                "batch_size=…, operator=…)"
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if isinstance(self.model, Loaded):
            loaded = self.model
            self.model = loaded.model
            self.labels = loaded.labels if self.labels is None else self.labels
            self.preprocess = loaded.preprocess if self.preprocess is None else self.preprocess
        if self.labels is not None:
            self.labels = names_of(self.labels)
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size, "a positive whole number, or None for all at once")
        if self.chunk_frames is not None:
            check_whole("chunk_frames", self.chunk_frames, "a number of frames, or None for all")
        if self.frames is not None:
            check_whole("frames", self.frames, "how many frames each clip has")
        if self.frames is not None and self.chunk_frames is not None:
            raise InputError(
                "chunk_frames= cuts clips, and with frames= the model takes pictures; leave it out"
            )
        if self.fast and callable(self.operator):
            raise InputError(
                "operator= calls layers as it likes, which fast=True folds; leave one of them out"
            )
        self.session = Session(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option; of a method that was made, as if it had been made with it.

        Raises what making it would, and leaves it as it was then.
        """
        held = vars(self)
        if "session" not in held or name not in self.__dataclass_fields__:
            object.__setattr__(self, name, value)
            return
        twin = object.__new__(type(self))
        vars(twin).update(held, **{name: value})
        del twin.session
        if isinstance(value, Loaded):  # whose own labels and preprocessing are then used
            twin.labels = twin.preprocess = None
        twin.__post_init__()
        twin.session.method = self
        held.update(vars(twin))

    def explain(self, inputs: Inputs, targets: Any = None, *others: Any) -> Explanation:
        """Explain `inputs` for `targets`; see `chronocam.explain` for what both may be.

        Returns an `Explanation` with maps `(batch, target, *grid)`. A data set is consumed batch by batch.
        Raises TypeError for `others`: several targets are one argument, and several inputs a tuple.
        """
        if others:
            raise TypeError(
                f"explain takes inputs and targets, and {2 + len(others)} arguments were given; give several "
                "targets of every sample as a list of cc.targets, such as [cc.targets.Class(3), "
                "cc.targets.Class(4)], and several inputs as a tuple"
            )
        return self.session.explain(inputs, targets)

    def explain_batches(self, dataset: Any, targets: Any = None) -> Iterator[Explanation]:
        """Yield one `Explanation` per batch of `dataset`, an iterable of inputs or of (inputs, targets)."""
        return self.session.explain_batches(dataset, targets)

    def retarget(self, target: Target) -> Target:
        """Return the target whose score is differentiated instead; most methods take it as it is."""
        return target

    def keeps_signs(self, info: TargetInfo) -> bool:
        """Say whether negative values stay in the map of this target (no final ReLU)."""
        return True

    def maps(self, view: View) -> Maps:
        """Return maps `(batch, target, *grid)`, before any ReLU."""
        raise NotImplementedError(f"{type(self).__name__} must define maps(view)")


@dataclass(kw_only=True, eq=False)
class EvidenceMethod(Method):
    """A map of evidence on a layer's grid, of which only what raises the score is kept.

    signed: keep both signs (no ReLU); None keeps them for regression targets only.

    Example:
    >>> both = cc.ReciproCAM(model, "conv2", signed=True).explain(images, "dog").maps
    >>> positive = cc.ReciproCAM(model, "conv2").explain(images, "dog").maps
    >>> isinstance(cc.ReciproCAM(model), cc.methods.EvidenceMethod), (positive == both.clip(0)).all()
    (True, np.True_)
    """

    signed: bool | None = None

    def keeps_signs(self, info: TargetInfo) -> bool:
        """Keep signs where `signed` says so, or else where the target does."""
        return info.signed if self.signed is None else self.signed


@dataclass(kw_only=True, eq=False)
class CAMMethod(EvidenceMethod):
    """A class activation map: a weighted sum of a layer's activations, then ReLU.

    pool: for clips, whether weights are of the whole `"clip"` or of each `"frame"` (time slice) by itself;
        None is frame where a 2D network saw the frames one by one, else clip. Elementwise methods have no
        weights to pool.

    Example:
    >>> both = cc.HiResCAM(model, "conv2", signed=True).explain(images, "dog").maps
    >>> positive = cc.HiResCAM(model, "conv2").explain(images, "dog").maps
    >>> bool((positive == both.clip(0)).all()), isinstance(cc.HiResCAM(model), cc.methods.CAMMethod)
    (True, True)
    """

    pool: str | None = None

    def __post_init__(self) -> None:
        if self.pool not in (None, "clip", "frame"):
            raise InputError(f"no pooling `{self.pool}`; choose clip or frame")
        super().__post_init__()

    @property
    def pools(self) -> bool:
        """Whether there is one weight for each channel, which forgets the place that a score is of."""
        return type(self).combine is CAMMethod.combine

    def maps(self, view: View) -> Maps:
        """Combine the one capture of the layer."""
        return self.combine(view.captures[0])

    def combine(self, capture: Capture) -> Maps:
        """Return Σ_k w_k A_k, with this method's weights."""
        return weighted_sum(self.weights(capture), capture.activations)

    def weights(self, capture: Capture) -> Float[Any, "batch target channel"]:
        """Return one weight per channel."""
        raise NotImplementedError(f"{type(self).__name__} must define weights(capture) or combine(capture)")


@dataclass(kw_only=True, eq=False)
class GradientMethod(Method):
    """A map made of gradients, at the input's own resolution (or at `conv_layer` where one is given).

    reduce: how channels become one value: `"max"` of magnitudes, signed `"sum"`, Euclidean `"norm"`.

    Example:
    >>> maps = cc.Saliency(model, reduce="norm").explain(images).maps
    >>> isinstance(cc.Saliency(model), cc.methods.GradientMethod), maps.shape
    (True, (2, 1, 32, 32))
    """

    reduce: Reduce = "max"
    default_layer: ClassVar[str | None] = INPUT

    def maps(self, view: View) -> Maps:
        """Reduce the channels of this method's attribution."""
        return over_channels(self.attribution(view), self.reduce)

    def attribution(self, view: View) -> Float[Any, "batch target channel *grid"]:
        """Return one signed value per channel and position; here the gradient."""
        return view.captures[0].gradients


@dataclass(kw_only=True, eq=False)
class PathMethod(GradientMethod):
    """Gradients at the input, added up along a way to it: what each value adds to the score on that way.

    reduce: as of `GradientMethod`; the signed `"sum"` keeps the total.
    steps: how many gradients are taken, each a pass.

    What is added up must be the rise of the score from the start of the way to its end (completeness). Both
    are compared at each call; where they differ by more than 0.1 %, a finding says by how much.

    Raises LayerError for a layer: the way is one of inputs.

    Example:
    >>> isinstance(cc.IntegratedGradients(model), cc.methods.PathMethod)
    True
    """

    reduce: Reduce = "sum"
    steps: int = 50
    needs: ClassVar[tuple[Need, ...]] = (Need(at_input=True),)

    def __post_init__(self) -> None:
        if self.conv_layer not in (None, INPUT):
            raise LayerError(f"{self.name} is of the input; leave conv_layer out")
        check_whole("steps", self.steps, "at least one")
        super().__post_init__()

    def attribution(self, view: View) -> Float[Any, "batch target channel *grid"]:
        """Add up gradient times step along the way, and compare the total with the rise of the score."""
        total: Any = 0.0
        for place, step in self.way(view):
            (capture,) = view.again(view.on_main(_always(place)))
            total = total + capture.gradients * per_target(step)
        self._compare(view, total)
        return total

    def way(self, view: View) -> Iterator[tuple[Array, Array]]:
        """Yield where gradients are taken, and the step each is multiplied by, `(batch, channel, *grid)`."""
        raise NotImplementedError(f"{type(self).__name__} must define way(view)")

    def starts(self, view: View) -> Sequence[Array]:
        """Return the inputs at which ways start."""
        raise NotImplementedError(f"{type(self).__name__} must define starts(view)")

    def _compare(self, view: View, total: Array) -> None:
        starts = [view.on_main(_always(start)) for start in self.starts(view)]
        end, *before = to_numpy(view.scores([_same, *starts])).astype(np.float64)
        rise = end - np.mean(before, axis=0)
        added = to_numpy(total).astype(np.float64).sum(axis=tuple(range(2, total.ndim)))
        note_gap(
            view,
            added,
            rise,
            "rises over the baseline by",
            f"more than the {self.steps} steps= bring them together",
            np.abs(end),
        )


def note_gap(
    view: View, added: np.ndarray, whole: np.ndarray, does: str, why: str, score: np.ndarray
) -> None:
    """Note by how much what is attributed, `(batch, target)`, misses what it must add up to.

    score: the size of the score, beside which rounding errors are as good as nothing.
    """
    missed = np.abs(added - whole)
    gap = np.where(missed <= _ROUNDED * score, 0, missed / np.maximum(np.abs(whole), 1e-12))
    worst = np.unravel_index(np.argmax(gap), gap.shape)
    if gap[worst] > COMPLETE:
        view.note(
            f"what is attributed adds up to {added[worst]:.4g}, where the score {does} {whole[worst]:.4g}, "
            f"{gap[worst]:.2%} apart; {why}"
        )


def _same(x: Array) -> Array:
    return x


def _always(values: Array) -> Change:
    return lambda x: values


def method_named(name: str) -> type[Method]:
    """Return the method with this command-line name.

    Raises InputError, with close names, for an unknown one.
    """
    if name not in METHODS:
        hint = suggest(name, list(METHODS)) or f"; choose one of {', '.join(sorted(METHODS))}"
        raise InputError(f"no method `{name}`{hint}")
    return METHODS[name]


def unregister(name: str) -> type[Method]:
    """Take a method out of `METHODS` and return it: one that was defined for a moment, as in a notebook.

    Raises InputError, with close names, for an unknown one.

    Example:
    >>> class Brightest(cc.GradCAM):
    ...     name = "brightest"
    >>> cc.methods.unregister("brightest").__name__
    'Brightest'
    """
    method_named(name)  # raises where there is none
    return _METHODS.pop(name)
