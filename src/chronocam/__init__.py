"""chronocam: where and when a vision model looked.

import chronocam as cc

explanation = cc.GradCAM(model).explain(images)      # Explanation: maps, scores, targets, diagnostics
explanation.save("map.png", images)
"""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily

if TYPE_CHECKING:
    from chronocam import (
        callbacks,
        data,
        engines,
        errors,
        evaluation,
        features,
        layouts,
        media,
        methods,
        metrics,
        models,
        odometry,
        render,
        report,
        runs,
        sequence,
        targets,
        train,
        types,
    )
    from chronocam._detect import detect
    from chronocam._explain import explain
    from chronocam._load import load
    from chronocam.detections import Detection, Detections
    from chronocam.engines.blackbox import blackbox
    from chronocam.evaluation import Evaluation, evaluate
    from chronocam.explanation import Explanation
    from chronocam.joint.inputs.batches import Shared
    from chronocam.methods import (
        CAM,
        DRISE,
        ISCAM,
        KPCACAM,
        LIME,
        ODAM,
        RISE,
        SSCAM,
        AblationCAM,
        AttentionRelevance,
        AttentionRollout,
        BlurIG,
        EigenCAM,
        EigenGradCAM,
        ExpectedGradients,
        ExtremalPerturbation,
        FinerCAM,
        FullGrad,
        GradCAM,
        GradCAMElementWise,
        GradCAMPlusPlus,
        GradECLIP,
        GradientXAttention,
        GroupCAM,
        GuidedBackprop,
        GuidedGradCAM,
        HiResCAM,
        InputXGradient,
        IntegratedGradients,
        KernelSHAP,
        LayerCAM,
        LeGrad,
        Occlusion,
        ReciproCAM,
        Saliency,
        ScoreCAM,
        ShapleyCAM,
        SmoothGrad,
        SmoothGradCAMPlusPlus,
        TemporalMask,
        VisualBackProp,
        XGradCAM,
    )
else:
    # The command line answers before any of it is imported, and each call needs only a part.
    _METHODS = (
        "AttentionRelevance CAM DRISE AblationCAM AttentionRollout BlurIG EigenCAM EigenGradCAM "
        "ExpectedGradients ExtremalPerturbation FinerCAM FullGrad GradCAM GradCAMElementWise "
        "GradCAMPlusPlus GradECLIP GradientXAttention GroupCAM GuidedBackprop GuidedGradCAM HiResCAM "
        "ISCAM InputXGradient IntegratedGradients KPCACAM KernelSHAP LIME LayerCAM LeGrad ODAM Occlusion "
        "RISE ReciproCAM SSCAM Saliency ScoreCAM ShapleyCAM SmoothGrad SmoothGradCAMPlusPlus "
        "TemporalMask VisualBackProp XGradCAM"
    )
    _MODULES = (
        "callbacks data engines errors evaluation features layouts media methods metrics models odometry "
        "render report runs sequence targets train types"
    )
    __getattr__, __dir__ = _lazily(
        __name__,
        {
            "._detect": ["detect"],
            "._explain": ["explain"],
            "._load": ["load"],
            ".detections": ["Detection", "Detections"],
            ".evaluation": ["Evaluation", "evaluate"],
            ".engines.blackbox": ["blackbox"],
            ".explanation": ["Explanation"],
            ".joint.inputs.batches": ["Shared"],
            ".methods": _METHODS.split(),
        },
        modules={name: f"chronocam.{name}" for name in _MODULES.split()},
        extras={"data": "train", "train": "train"},
    )

__version__ = "0.2.0"
__all__ = [
    "CAM",
    "DRISE",
    "ISCAM",
    "KPCACAM",
    "LIME",
    "ODAM",
    "RISE",
    "SSCAM",
    "AblationCAM",
    "AttentionRelevance",
    "AttentionRollout",
    "BlurIG",
    "Detection",
    "Detections",
    "EigenCAM",
    "EigenGradCAM",
    "Evaluation",
    "ExpectedGradients",
    "Explanation",
    "ExtremalPerturbation",
    "FinerCAM",
    "FullGrad",
    "GradCAM",
    "GradCAMElementWise",
    "GradCAMPlusPlus",
    "GradECLIP",
    "GradientXAttention",
    "GroupCAM",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "LeGrad",
    "Occlusion",
    "ReciproCAM",
    "Saliency",
    "ScoreCAM",
    "ShapleyCAM",
    "Shared",
    "SmoothGrad",
    "SmoothGradCAMPlusPlus",
    "TemporalMask",
    "VisualBackProp",
    "XGradCAM",
    "blackbox",
    "callbacks",
    "data",
    "detect",
    "engines",
    "errors",
    "evaluate",
    "evaluation",
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
