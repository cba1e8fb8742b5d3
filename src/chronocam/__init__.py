"""chronocam: where and when a vision model looked.

import chronocam as cc

explanation = cc.GradCAM(model).explain(images)      # Explanation: maps, scores, targets, diagnostics
explanation.save("map.png", images)
"""

from typing import TYPE_CHECKING

from chronocam import errors, media, methods, targets, types
from chronocam._explain import explain
from chronocam._lazy import lazily as _lazily
from chronocam._load import load
from chronocam.explanation import Explanation
from chronocam.joint.inputs import Shared
from chronocam.methods import (
    CAM,
    AttentionRollout,
    EigenCAM,
    EigenGradCAM,
    FinerCAM,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    InputXGradient,
    LayerCAM,
    Saliency,
    ShapleyCAM,
    SmoothGrad,
    SmoothGradCAMPlusPlus,
    TemporalMask,
    VisualBackProp,
    XGradCAM,
)

if TYPE_CHECKING:
    from chronocam import (
        data,
        engines,
        features,
        layouts,
        metrics,
        models,
        odometry,
        render,
        report,
        runs,
        sequence,
        train,
    )
else:
    # Few calls need them, and what they import (statistics, figures, rendered worlds) takes longer than the
    # rest of the package.
    _LATER = "data engines features layouts metrics models odometry render report runs sequence train"
    __getattr__, __dir__ = _lazily(
        __name__,
        modules={name: f"chronocam.{name}" for name in _LATER.split()},
        extras={"data": "train", "train": "train"},
    )

__version__ = "0.1.0"
__all__ = [
    "CAM",
    "AttentionRollout",
    "EigenCAM",
    "EigenGradCAM",
    "Explanation",
    "FinerCAM",
    "GradCAM",
    "GradCAMElementWise",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "LayerCAM",
    "Saliency",
    "ShapleyCAM",
    "Shared",
    "SmoothGrad",
    "SmoothGradCAMPlusPlus",
    "TemporalMask",
    "VisualBackProp",
    "XGradCAM",
    "data",
    "engines",
    "errors",
    "explain",
    "features",
    "layouts",
    "load",
    "media",
    "methods",
    "metrics",
    "models",
    "odometry",
    "render",
    "report",
    "runs",
    "sequence",
    "targets",
    "train",
    "types",
]
