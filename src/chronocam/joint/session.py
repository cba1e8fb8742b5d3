"""A method bound to its model: inputs are cut into batches, and what each gives is joined.

One pass per batch serves all methods, layers and targets: see `chronocam.joint.explaining`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chronocam.errors import InputError, LayerError, TargetError
from chronocam.explanation import Explanation, concatenate, on_one_grid
from chronocam.joint.explaining import Explaining, adapted
from chronocam.joint.inputs.batches import batches, refuse_endless, samples_listed
from chronocam.joint.look.look import Look
from chronocam.joint.look.subject import Subject
from chronocam.joint.recipe import Recipe
from chronocam.joint.words import are_of_words, by_word, over_words
from chronocam.maps.fuse import check_fuse
from chronocam.maps.views import views_named
from chronocam.types import Inputs, Targets
from chronocam.types.targets import missing_in


class Session:
    """A method bound to its model; what `Method.explain` calls."""

    def __init__(self, method: Recipe) -> None:
        self.method = method
        check_fuse(method.fuse)
        self.subject: Subject = Subject(
            method.model,
            method.output_layer,
            method.frames,
            method.fast,
            method.precision,
            method.operator,
        )
        self.layers: list[str | None] = self._resolve(method)
        if method.align not in ("half_pixel", "receptive_field"):
            raise InputError(f"no alignment `{method.align}`; choose half_pixel or receptive_field")
        if method.align != "half_pixel" and len(self.layers) > 1:
            raise InputError(
                'fused layers are aligned by half pixels only; give one layer, or align="half_pixel"'
            )
        if method.views is not None:
            views_named(method.views)
            if method.align != "half_pixel":
                raise InputError('views= are aligned by half pixels only; give align="half_pixel"')

    def _resolve(self, method: Recipe) -> list[str | None]:
        named, resolve = method.conv_layer, self.subject.engine.resolve
        if named is None:
            named = method.default_layer
        if isinstance(named, (list, tuple)):
            if not named:
                raise LayerError("conv_layer is an empty list; name at least one layer")
            return [resolve(layer) for layer in named]
        return [None if named is None else resolve(named)]

    def explain(self, inputs: Inputs, targets: Targets) -> Explanation:
        """Explain all of `inputs` and join the batches."""
        return explain_all([self.method], inputs, targets)[0]

    def explain_batches(self, dataset: Inputs, targets: Targets) -> Iterator[Explanation]:
        """Yield one Explanation per batch of the data set."""
        for (explanation,) in _by_batch([self.method], dataset, targets):
            yield explanation


def explain_all(methods: Sequence[Recipe], inputs: Inputs, targets: Targets) -> list[Explanation]:
    """Explain all of `inputs` by each method, from one pass per batch, and join the batches."""
    refuse_endless(inputs)
    parts = list(zip(*_by_batch(methods, inputs, targets), strict=True))
    if not parts:
        raise InputError("there is nothing to explain: the inputs hold no batch")
    joined = [part[0] for part in parts]
    if len(parts[0]) > 1:
        first = methods[0]
        # Batches of several sizes of a data set are refused: its maps are seldom wanted all at once.
        listed = samples_listed(inputs, first.preprocess, first.session.subject.stem) is not None
        joined = [concatenate(on_one_grid(part) if listed else part) for part in parts]
    if missing_in(joined[0].targets).all():
        what = joined[0].targets[0][0]
        raise TargetError(
            f"the model finds {what} in any sample; ask for another class, or for boxes of a lower min_score="
        )
    return joined


def _by_batch(methods: Sequence[Recipe], inputs: Inputs, targets: Targets) -> Iterator[list[Explanation]]:
    """Yield, per batch, one Explanation for each method. The first one's options are those of the pass."""
    first = methods[0]
    subject = first.session.subject
    stem = subject.stem if isinstance(inputs, list) else None  # which only lists are told apart by
    how = first.batch_size, first.preprocess, subject.as_clips, stem
    for batch in batches(inputs, targets, *how):
        if are_of_words(first, batch.inputs):
            look = Look(subject, adapted(subject, batch), shared=batch.shared)
            yield over_words(methods, batch, look)
        else:
            explaining = Explaining(methods, batch)
            yield [by_word(one, explaining.look) for one in explaining.explanations()]
