"""`cc.evaluate`: every method by every measure over the same samples, their forward passes shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Final

from chronocam.errors import InputError, check_real, check_whole
from chronocam.evaluation.judge import Judge
from chronocam.evaluation.measures import Measure, Pointing, measures_named
from chronocam.evaluation.panel import panel
from chronocam.evaluation.result import Evaluation
from chronocam.evaluation.run import Run
from chronocam.evaluation.samples import refuse_classes_beside, samples_of
from chronocam.evaluation.store import settings_of, store_of
from chronocam.methods import Saliency
from chronocam.models import Loaded

_THREADS: Final = 2


def evaluate(
    model: Any,
    data: Any,
    targets: Any = None,
    *,
    methods: str | Sequence[Any] | Mapping[str, Any] = ("gradcam", "layercam"),
    layers: str | Sequence[Any] | None = None,
    measures: str
    | Measure
    | Sequence[str | Measure | type[Measure]]
    | Mapping[str, str | Measure | type[Measure]] = ("deletion", "pointing"),
    truth: Any = None,
    tolerance: float = 0,
    budget: int | None = None,
    out: str | PathLike[str] | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    **options: Any,
) -> Evaluation:
    """Judge maps on a model and data: means with intervals, beside maps that know nothing, and a verdict.

    Every method and measure sees the same samples and shares forward passes; noise, masks and random
    weights are the same for all.

    model: a `torch.nn.Module`, a `keras.Model`, `cc.blackbox(…)`, or what `cc.models.load` returns.
    data: where a preprocessing is known a folder, a pattern such as `"photos/*.jpg"`, or a list of paths,
        pictures or clips; an array with a batch axis or a list of its samples; for models of several inputs a
        tuple of them, or a dict by the inputs' names, of which the one with places is judged (or `on=`); an
        iterable of batches of these, or of pairs (batch, targets); or a data set of samples by number, such
        as `torchvision.datasets.ImageFolder`.
    targets: a class or label for each sample, one for all, a callable, or None for the predicted class.
    methods: names, method classes, methods with their options, functions `(inputs, target) -> maps (batch,
        *grid)`, or methods of other libraries that are installed, such as `"captum:LayerGradCam"`,
        `"torchcam:LayerCAM"` and `"grad-cam:ScoreCAM"`; a dict by their names also of arrays
        `(sample, *grid)`. The first is the reference that others are compared with.
    layers: layers to judge one by one; None is each method's default.
    measures: names of `cc.evaluation.MEASURES`, or measures with options; a dict of them by names of their
        own. In a list, measures of one kind are called by their options, as in `deletion(baseline=mean)`.
    truth: where the object is, for each sample, in order or as a dict by the files' names: a mask or its
        file, boxes, points or (of clips) frames, in pixels of the picture, or of the input where data are
        arrays; None where it is not known. Also a folder of masks, named like the files.
    tolerance: of the pointing game, in pixels of the input.
    budget: no sample is begun after so many forward passes of one input; None is all samples.
    out: a folder in which judged samples are kept, and their values as a table (`samples.parquet`); the same
        call goes on there after an interruption.
    batch_size: how many changed inputs go through the model at once; fewer where that is faster.
    seed: of all that is drawn.
    progress: wraps the samples while they are judged, such as `rich.progress.track`.
    options: of every method, such as `labels`, `fast`, `frames`.

    Samples of one picture count as one. A sample that cannot be judged is among the `failures`, and the
    others go on. Raises InputError for what does not fit, and where nothing could be judged.

    Example:
    >>> result = cc.evaluate(model, images, "dog", methods=["gradcam", "layercam"], measures=["insertion"])
    >>> [line.row.method for line in result.lines]
    ['gradcam', 'layercam', 'random', 'centre', 'edges', 'randomised']
    """
    check_real("tolerance", tolerance, "pixels, from 0", least=0)
    check_whole("batch_size", batch_size, "a number of inputs")
    check_whole("seed", seed, "a whole number from 0", least=0)
    if budget is not None:
        check_whole("budget", budget, "a number of forward passes")
    if isinstance(model, Loaded):
        options = {"labels": model.labels, "preprocess": model.preprocess} | options
        model = model.model
    preprocess = options.pop("preprocess", None)
    chosen = tuple(_tolerant(one, tolerance) for one in measures_named(measures))
    scorer = Saliency(model, batch_size=batch_size, **options)
    stem = scorer.session.subject.stem
    refuse_classes_beside(data, scorer.session.subject.engine.inputs)
    samples = samples_of(data, targets, truth, preprocess, options.get("on"), stem)
    with ExitStack() as scope:
        judged_by = panel(model, methods, layers, options, seed, scope)
        for name, maps in judged_by.arrays.items():
            if len(maps) != len(samples):
                raise InputError(
                    f"`{name}` holds {len(maps)} maps for {len(samples)} samples; give one for each"
                )
        pool = scope.enter_context(ThreadPoolExecutor(_THREADS))
        judge = Judge(judged_by, chosen, preprocess, scorer, seed, pool)
        store = None
        if out is not None:
            store = store_of(fspath(out), model, settings_of(judged_by, chosen, preprocess, seed), samples)
        return Run(judge, store, budget).of(samples, progress)


def _tolerant(measure: Measure, tolerance: float) -> Measure:
    """Return a measure with the tolerance of the pointing game, where it is that one and none is its own."""
    if not isinstance(measure, Pointing) or measure.tolerance or not tolerance:
        return measure
    return replace(measure, tolerance=tolerance).called(measure.name, measure.title)
