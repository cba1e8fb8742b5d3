"""Visual odometry and depth: geometry, view-synthesis losses, measures, and scores for explanation.

Importing this imports no framework; a module is imported when one of its names is first used.
"""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily

if TYPE_CHECKING:
    from chronocam.odometry.evaluation import (
        DepthErrors,
        accumulate,
        depth_errors,
        mean_depth,
        rotation_errors,
        snippet_errors,
        steps_of,
        zero_motion,
    )
    from chronocam.odometry.geometry import (
        axis_angle_to_matrix,
        backproject,
        euler_to_matrix,
        invert,
        matrix_to_axis_angle,
        matrix_to_euler,
        matrix_to_pose,
        pose_to_matrix,
        project,
        relative_pose,
        resized_intrinsics,
        rotation_angle,
        warp,
    )
    from chronocam.odometry.losses import MONODEPTH2, SFMLEARNER, Terms, ViewSynthesis
    from chronocam.odometry.scores import DepthLoss, PoseLoss, RotationAngle, TranslationNorm
else:
    _HOMES = {
        ".evaluation": (
            "DepthErrors accumulate depth_errors mean_depth rotation_errors snippet_errors "
            "steps_of zero_motion"
        ),
        ".geometry": (
            "axis_angle_to_matrix backproject euler_to_matrix invert matrix_to_axis_angle matrix_to_euler "
            "matrix_to_pose pose_to_matrix project relative_pose resized_intrinsics rotation_angle warp"
        ),
        ".losses": "MONODEPTH2 SFMLEARNER Terms ViewSynthesis",
        ".scores": "DepthLoss PoseLoss RotationAngle TranslationNorm",
    }
    __getattr__, __dir__ = _lazily(__name__, {module: names.split() for module, names in _HOMES.items()})

__all__ = [
    "MONODEPTH2",
    "SFMLEARNER",
    "DepthErrors",
    "DepthLoss",
    "PoseLoss",
    "RotationAngle",
    "Terms",
    "TranslationNorm",
    "ViewSynthesis",
    "accumulate",
    "axis_angle_to_matrix",
    "backproject",
    "depth_errors",
    "euler_to_matrix",
    "invert",
    "matrix_to_axis_angle",
    "matrix_to_euler",
    "matrix_to_pose",
    "mean_depth",
    "pose_to_matrix",
    "project",
    "relative_pose",
    "resized_intrinsics",
    "rotation_angle",
    "rotation_errors",
    "snippet_errors",
    "steps_of",
    "warp",
    "zero_motion",
]
