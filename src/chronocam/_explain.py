"""`cc.explain`: several methods, layers and targets by name, from one pass of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chronocam.errors import InputError
from chronocam.explanation import Explanation
from chronocam.joint.session import explain_all
from chronocam.methods import Method
from chronocam.methods._base import method_named
from chronocam.types import INPUT


def explain(
    model: Any,
    inputs: Any,
    targets: Any = None,
    *,
    methods: str | Sequence[str | Callable[..., Method]] = ("gradcam",),
    layers: Sequence[Any] | None = None,
    **options: Any,
) -> dict[str, Explanation]:
    """Explain several targets, layers and methods from one forward pass.

    model: a `torch.nn.Module`, a `keras.Model`, or what `cc.models.load` returns.
    inputs: one array of the model's framework or NumPy, a tuple or dict of them (several inputs), or an
        iterable of batches, each inputs or (inputs, targets). Where a preprocessing is known also PIL images,
        `Clip` objects, paths, and lists of them.
    targets: None (the predicted class), an int, a label, a list of targets, labels and callables, integers
        `(batch,)` or `(batch, k)`, or one-hot floats `(batch, classes)`. For clips, where a model gives
        logits at every step, None is the class by majority vote (`cc.targets.MajorityVote`) and a class its
        logit averaged over the steps; `cc.targets.Step` and `EveryStep` explain single ones.
    methods: command-line names, method classes, or anything that makes a method of a model, a layer and
        options.
    layers: layers to explain one by one; None is each method's default. A list among them is fused into one
        map. Pixel-level methods stay at the input.
    options: what every method takes: `output_layer`, `operator`, `batch_size`, `layout`, `align`,
        `chunk_frames`, `detach_attention`, `labels`, `preprocess`, `on`, `frames`, `fuse`,
        `views`, `fast`, `precision`; and what all of the given methods take.

    Returns explanations by method name; by `"gradcam@layer3"` where more than one layer is given.
    Raises a ChronocamError that says what to change.

    Example:
    >>> found = cc.explain(model, images, 1, methods=["gradcam", "layercam"], layers=["relu1", "relu2"])
    >>> sorted(found)
    ['gradcam@relu1', 'gradcam@relu2', 'layercam@relu1', 'layercam@relu2']
    """
    makers = [method_named(m) if isinstance(m, str) else m for m in _listed(methods)]
    places = [None] if layers is None else _listed(layers)
    if not makers or not places:
        raise InputError("nothing to explain: methods or layers is empty")

    at_layers = [make(model, at, **options) for at in places for make in makers if not _at_input(make)]
    bound = at_layers + [make(model, **options) for make in makers if _at_input(make)]
    explanations = explain_all(bound, inputs, targets)
    several = len(places) > 1
    named = {f"{e.method}@{e.layer}" if several and e.layer != INPUT else e.method: e for e in explanations}
    if len(named) < len(explanations):
        raise InputError("two of the explanations have the same name; ask for each method and layer once")
    return named


def _listed(names: Any) -> list[Any]:
    return [names] if isinstance(names, str) else list(names)


def _at_input(make: Callable[..., Method]) -> bool:
    return getattr(getattr(make, "func", make), "default_layer", None) == INPUT
