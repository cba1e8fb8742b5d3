"""What there is to know of a model before it is explained: each step tried, and what is missing said."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from warnings import catch_warnings

import numpy as np

from chronocam.errors import ChronocamError, TargetError, few, first_line
from chronocam.jsonable import JsonRecord
from chronocam.maps.arrays import to_numpy
from chronocam.types import BlackBox

if TYPE_CHECKING:
    from chronocam.media import ClipPreprocess, Preprocess
    from chronocam.models import Loaded

_LIBRARIES: Final = (
    "numpy",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "keras",
    "tensorflow",
    "jax",
    "onnxruntime",
    "onnx2torch",
    "ai-edge-litert",
)
_SHOWN: Final = 5  # of labels, classes and layers


@dataclass(frozen=True)
class Check(JsonRecord):
    """One step of an examination.

    what: the step, in a word.
    text: what was found.
    fault: whether it has to be mended before the model can be explained rightly.

    Example:
        >>> cc.runs.doctor("chronocam:digits")[1]
        Check(what='model', text='DigitsNet on torch, 186,426 parameters', fault=False)
    """

    what: str
    text: str
    fault: bool = False


def doctor(
    spec: str,
    medium: str | Path | None = None,
    *,
    trust: bool = False,
    wants: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Examine the model of a spec, and an input if one is named, step by step; a fault ends it.

    spec: as of `chronocam.models.load`.
    medium: the path of a picture, a clip or an array.
    trust: let the model's files run code.
    wants: what is said of the inputs, as `{"range": (-1, 1)}`; labels too.

    Example:
        >>> [check.what for check in cc.runs.doctor("chronocam:digits")]
        ['versions', 'model', 'input', 'labels', 'forward', 'layers', 'default', 'map']
    """
    checks: list[Check] = []
    try:
        for check in _examined(spec, medium, trust, wants or {}):
            checks.append(check)
    except ChronocamError as error:
        checks.append(Check("fault", str(error), fault=True))
    except Exception as error:  # whatever a model of someone else's raises is what is to be found out
        where = f"{type(error).__name__}: {first_line(error)}"
        checks.append(Check("fault", f"the model fails after the last line above ({where})", fault=True))
    return checks


def _examined(spec: str, medium: str | Path | None, trust: bool, wants: Mapping[str, Any]) -> Iterator[Check]:
    from chronocam.runs.device import load_on

    yield Check("versions", ", ".join(_versions()))
    yield from _file(spec)
    loaded = load_on(None, spec, trust, wants)
    yield Check("model", _model(loaded.model))
    yield from _input(loaded)
    yield _labels(loaded)
    x = _prepared(loaded, medium)
    began = time.perf_counter()
    outputs = _outputs(loaded.model, x)
    yield from _forward(loaded, x, outputs, time.perf_counter() - began)
    if medium is not None:
        yield Check(Path(medium).name, _classes(loaded, outputs))
    yield from _maps(loaded, x)


def _versions() -> Iterator[str]:
    yield f"chronocam {version('chronocam')}"
    yield f"Python {sys.version.split()[0]}"
    for name in _LIBRARIES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _file(spec: str) -> Iterator[Check]:
    """Yield what the file of a model is, where the spec names one."""
    from chronocam.models.specs import resolve, within
    from chronocam.models.wants import SIDECAR

    source, request = resolve(within(spec))
    path = Path(request.names[0]) if request.names else Path()
    if not path.is_file():
        return
    yield Check("file", f"{path.name}, {path.stat().st_size / 1e6:.1f} MB: {source.about or source.form}")
    if (path.parent / SIDECAR).is_file():
        yield Check("beside it", f"{SIDECAR}, which says what the model wants")


def _model(model: Any) -> str:
    if isinstance(model, BlackBox):
        return f"a black box: {model.why}"
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        backend = keras.backend.backend()
        return f"{type(model).__name__} of Keras on {backend}, {model.count_params():,} parameters"
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{type(model).__name__} on torch, {count:,} parameters"


def _input(loaded: Loaded) -> Iterator[Check]:
    from chronocam.media import ClipPreprocess
    from chronocam.runs.plan import takes_signals

    recipe = loaded.preprocess
    if takes_signals(loaded.model):
        yield Check("input", "signals (channel, time) or (time, channel), in .npy or .csv files")
        return
    if recipe is None:
        yield Check("input", "features (time, feature), in .npy files")
        return
    text = _in_words(recipe.frame if isinstance(recipe, ClipPreprocess) else recipe)
    if isinstance(recipe, ClipPreprocess):
        text = f"clips of {recipe.frames} frames, axes {recipe.axes}; frames {text}"
    yield Check("input", text)
    if recipe.assumption:
        yield Check("guess", recipe.assumption)


def _in_words(frame: Preprocess) -> str:
    resized = "as they are" if frame.resize is None else f"resized to {frame.resize}"
    cut = "" if frame.crop is None else f", of which {frame.crop} in the centre"
    colours = "grey" if len(frame.mean) == 1 else frame.order
    means, stds = (", ".join(f"{value:.4g}" for value in values) for values in (frame.mean, frame.std))
    values = f"(v · {frame.scale:.4g} - mean {means}) / std {stds}"
    return f"{resized}{cut}, {colours}, channels {frame.channels}, {values}"


def _labels(loaded: Loaded) -> Check:
    if not loaded.labels:
        return Check("labels", "none: give --labels FILE, a line each, to name classes")
    return Check("labels", f"{len(loaded.labels)}: {few(loaded.labels, _SHOWN)}")


def _prepared(loaded: Loaded, medium: str | Path | None) -> np.ndarray:
    """Return a batch of the one input, or of noise where none is named."""
    from chronocam.media import ClipPreprocess, read_image
    from chronocam.runs.arrays import read_array
    from chronocam.runs.layers import noise_for

    if medium is None:
        return noise_for(loaded)
    recipe: Preprocess | ClipPreprocess | None = loaded.preprocess
    if recipe is None or str(medium).endswith(".npy"):
        array = read_array(Path(medium), "as the model takes them")
        return array if array.ndim > 2 and len(array) == 1 else array[None]
    if isinstance(recipe, ClipPreprocess):
        return recipe(recipe.read(medium))[None]
    return recipe(read_image(Path(medium)))[None]


def _outputs(model: Any, x: np.ndarray) -> Any:
    """Return what the model makes of a batch, in arrays."""
    from chronocam.engines import engine_for

    inputs = engine_for(model).adapt(x)
    torch = sys.modules.get("torch")
    if isinstance(model, BlackBox):
        return _plain(model.function(inputs))
    if torch is not None and isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return _plain(model(inputs))
    with catch_warnings(action="ignore", category=UserWarning):  # of Keras, that a list is an array
        return _plain(model(inputs, training=False))


def _plain(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return {key: _plain(one) for key, one in outputs.items()}
    if isinstance(outputs, (tuple, list)):
        return [_plain(one) for one in outputs]
    return to_numpy(outputs) if hasattr(outputs, "shape") else outputs


def _shape(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return "{" + ", ".join(f"{key}: {_shape(one)}" for key, one in outputs.items()) + "}"
    if isinstance(outputs, list):
        return "[" + ", ".join(map(_shape, outputs)) + "]"
    return str(tuple(outputs.shape)) if hasattr(outputs, "shape") else type(outputs).__name__


def _forward(loaded: Loaded, x: np.ndarray, outputs: Any, seconds: float) -> Iterator[Check]:
    ends = f"{x.min():.3g} to {x.max():.3g}"
    text = f"{tuple(x.shape)}, values {ends} → {_shape(outputs)} in {seconds:.2g} s"
    finite = not isinstance(outputs, np.ndarray) or bool(np.isfinite(outputs).all())
    yield Check("forward", text if finite else f"{text}: not all finite", fault=not finite)
    count = outputs.shape[-1] if isinstance(outputs, np.ndarray) and outputs.ndim == 2 else None
    if loaded.labels and count not in (None, 1, len(loaded.labels)):
        text = f"{len(loaded.labels)} labels for {count} outputs; give the model's own with --labels FILE"
        yield Check("labels", text, fault=True)


def _classes(loaded: Loaded, outputs: Any) -> str:
    """Return the largest outputs of the input, with their names."""
    if isinstance(outputs, Mapping) and "logits" in outputs:
        outputs = outputs["logits"]
    if not isinstance(outputs, np.ndarray) or outputs.ndim != 2:
        return f"outputs {_shape(outputs)}, no row of classes"
    row = outputs[0]
    best = np.argsort(-row)[:_SHOWN]
    named = loaded.labels if loaded.labels and len(loaded.labels) == len(row) else None
    return ", ".join(f"{named[i] if named else f'output {i}'} {row[i]:.3g}" for i in best)


def _maps(loaded: Loaded, x: np.ndarray) -> Iterator[Check]:
    """Yield the layers with a grid, the one that is explained and why, and what a map of it says."""
    from chronocam.methods import GradCAM
    from chronocam.runs.layers import layer_rows

    if isinstance(loaded.model, BlackBox):
        yield Check("layers", "none are seen: choose occlusion (the default), rise, lime or kernelshap")
        return
    rows = [row for row in layer_rows(loaded) if row.grid]
    if not rows:
        yield Check("layers", "none has a grid: explain the features by `--method lrp`, or an array of them")
        return
    shown = ", ".join(f"{row.path} {' × '.join(map(str, row.grid))}" for row in rows[-_SHOWN:])
    before = f"{len(rows)} with a grid, `chronocam layers` lists them; the last: "
    yield Check("layers", f"{before}{shown}")
    chosen = [row for row in rows if row.default]
    yield from (
        Check("default", f"{row.path}, {row.type}, {' × '.join(map(str, row.grid))}") for row in chosen
    )
    if len(chosen) == 1:
        try:
            explanation = GradCAM(loaded.model).explain(x)
        except TargetError as error:  # no row of classes: the target must be stated
            yield Check("map", f"needs a target: {error}")
            return
        target, score = explanation.targets[0][0].name, float(explanation.scores[0, 0])
        yield Check("map", f"gradcam of {target} ({score:.3g}) at {explanation.layer}")
        yield from (Check("finding", text) for text in explanation.diagnostics)
