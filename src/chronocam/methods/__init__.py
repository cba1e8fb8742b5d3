"""Methods: pure functions from captures to maps, one file each.

A method of your own is a class with a `name`; by being defined it is registered, and `cc.explain` and the
command line know it. `METHODS` lists them all, `unregister` takes one out again.
"""

from chronocam.methods._attention import AttendedMethod, AttentionMethod
from chronocam.methods._base import (
    METHODS,
    CAMMethod,
    EvidenceMethod,
    GradientMethod,
    Method,
    PathMethod,
    unregister,
)
from chronocam.methods._masks import InputMasks, MaskMethod
from chronocam.methods.ablationcam import AblationCAM
from chronocam.methods.attentionrelevance import AttentionRelevance
from chronocam.methods.blurig import BlurIG
from chronocam.methods.cam import CAM
from chronocam.methods.drise import DRISE
from chronocam.methods.eigencam import EigenCAM
from chronocam.methods.eigengradcam import EigenGradCAM
from chronocam.methods.expectedgradients import ExpectedGradients
from chronocam.methods.extremalperturbation import ExtremalPerturbation
from chronocam.methods.finercam import FinerCAM
from chronocam.methods.fullgrad import FullGrad
from chronocam.methods.gradcam import GradCAM
from chronocam.methods.gradcam_elementwise import GradCAMElementWise
from chronocam.methods.gradcam_plusplus import GradCAMPlusPlus
from chronocam.methods.gradeclip import GradECLIP
from chronocam.methods.gradientxattention import GradientXAttention
from chronocam.methods.groupcam import GroupCAM
from chronocam.methods.guided_backprop import GuidedBackprop
from chronocam.methods.guided_gradcam import GuidedGradCAM
from chronocam.methods.hirescam import HiResCAM
from chronocam.methods.inputxgradient import InputXGradient
from chronocam.methods.integratedgradients import IntegratedGradients
from chronocam.methods.iscam import ISCAM
from chronocam.methods.kernelshap import KernelSHAP
from chronocam.methods.kpcacam import KPCACAM
from chronocam.methods.layercam import LayerCAM
from chronocam.methods.legrad import LeGrad
from chronocam.methods.lime import LIME
from chronocam.methods.occlusion import Occlusion
from chronocam.methods.odam import ODAM
from chronocam.methods.reciprocam import ReciproCAM
from chronocam.methods.rise import RISE
from chronocam.methods.rollout import AttentionRollout
from chronocam.methods.saliency import Saliency
from chronocam.methods.scorecam import ScoreCAM
from chronocam.methods.shapleycam import ShapleyCAM
from chronocam.methods.smoothgrad import SmoothGrad
from chronocam.methods.smoothgradcam_plusplus import SmoothGradCAMPlusPlus
from chronocam.methods.sscam import SSCAM
from chronocam.methods.temporalmask import TemporalMask
from chronocam.methods.visualbackprop import VisualBackProp
from chronocam.methods.xgradcam import XGradCAM

__all__ = [
    "CAM",
    "DRISE",
    "ISCAM",
    "KPCACAM",
    "LIME",
    "METHODS",
    "ODAM",
    "RISE",
    "SSCAM",
    "AblationCAM",
    "AttendedMethod",
    "AttentionMethod",
    "AttentionRelevance",
    "AttentionRollout",
    "BlurIG",
    "CAMMethod",
    "EigenCAM",
    "EigenGradCAM",
    "EvidenceMethod",
    "ExpectedGradients",
    "ExtremalPerturbation",
    "FinerCAM",
    "FullGrad",
    "GradCAM",
    "GradCAMElementWise",
    "GradCAMPlusPlus",
    "GradECLIP",
    "GradientMethod",
    "GradientXAttention",
    "GroupCAM",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputMasks",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "LeGrad",
    "MaskMethod",
    "Method",
    "Occlusion",
    "PathMethod",
    "ReciproCAM",
    "Saliency",
    "ScoreCAM",
    "ShapleyCAM",
    "SmoothGrad",
    "SmoothGradCAMPlusPlus",
    "TemporalMask",
    "VisualBackProp",
    "XGradCAM",
    "unregister",
]
