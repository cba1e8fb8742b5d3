"""How good depth and motion are, and what trivial predictions reach. NumPy alone.

Poses of a drive are camera-to-world, `(time, 4, 4)`; only their motion against each other counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from chronocam.errors import InputError


@dataclass(frozen=True, eq=False)
class DepthErrors:
    """Errors of depth, one number per picture, over the pixels whose depth is known; d predicted, d* true.

    abs_rel: mean |d − d*|/d*.
    sq_rel: mean (d − d*)²/d*.
    rmse: √mean (d − d*)².
    rmse_log: √mean (ln d − ln d*)².
    within: share of pixels with max(d/d*, d*/d) below 1.25, 1.25² and 1.25³, `(picture, 3)`.
    scale: what each prediction was multiplied by.

    Example:
        >>> truth = np.full((1, 2, 2), 2.0)
        >>> errors = cc.odometry.depth_errors(1.5 * truth, truth, median_scaling=False)
        >>> errors.abs_rel.tolist(), errors.within[0].tolist()
        ([0.5], [0.0, 1.0, 1.0])
    """

    abs_rel: Float[np.ndarray, " picture"]
    sq_rel: Float[np.ndarray, " picture"]
    rmse: Float[np.ndarray, " picture"]
    rmse_log: Float[np.ndarray, " picture"]
    within: Float[np.ndarray, "picture 3"]
    scale: Float[np.ndarray, " picture"]


def depth_errors(
    predicted: np.ndarray,
    truth: np.ndarray,
    median_scaling: bool = True,
    nearest: float = 1e-3,
    farthest: float = 80.0,
) -> DepthErrors:
    """Measure depth against the truth.

    predicted: `(picture, height, width)`, or anything that broadcasts to the truth.
    truth: `(picture, height, width)`, 0 where it is unknown; depths outside `nearest` to `farthest` are left
        out.
    median_scaling: multiply each prediction by median d*/median d, for networks that know no scale. After
        that, predictions are clipped to `nearest` … `farthest`. Raises InputError for shapes that do not
        match, predictions that are not positive and finite, and a picture without any known depth.
    Source: Eigen et al. 2014 (arXiv:1406.2283), section 4.1; the scaling of Zhou et al. 2017
    (arXiv:1704.07813).

    Example:
        >>> truth = np.array([[[1.0, 2.0], [4.0, 0.0]]])  # 0: unknown
        >>> errors = cc.odometry.depth_errors(10 * truth + 1e-9, truth)
        >>> errors.scale.round(3).tolist(), errors.rmse.round(3).tolist()
        ([0.1], [0.0])
    """
    if not 0 < nearest < farthest:
        raise InputError(f"nearest is {nearest} and farthest {farthest}; expected 0 < nearest < farthest")
    pairs = _known_pairs(predicted, truth, nearest, farthest)
    scale = np.array([np.median(t) / np.median(p) if median_scaling else 1.0 for p, t in pairs])
    rows = [_errors(np.clip(p * s, nearest, farthest), t) for (p, t), s in zip(pairs, scale, strict=True)]
    table = np.array(rows)
    return DepthErrors(table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4:], scale)


def _known_pairs(
    predicted: np.ndarray, truth: np.ndarray, nearest: float, farthest: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what was predicted and what is true at the known pixels of each picture."""
    true = np.asarray(truth, dtype=np.float64)
    depth = np.asarray(predicted, dtype=np.float64)
    if true.ndim != 3 or len(true) == 0:
        raise InputError(
            f"true depth has shape {true.shape}; expected (picture, height, width) with a picture or more"
        )
    try:
        depth = np.broadcast_to(depth, true.shape)
    except ValueError:
        raise InputError(
            f"predicted depth has shape {depth.shape}; expected that of the truth, {true.shape}"
        ) from None
    if not (np.isfinite(depth) & (depth > 0)).all():
        raise InputError(
            "predicted depth is not positive and finite everywhere; give depth, not disparity or its log"
        )
    known = np.isfinite(true) & (true > nearest) & (true < farthest)
    empty = np.flatnonzero(~known.any(axis=(1, 2)))
    if empty.size:
        raise InputError(
            f"picture {empty[0]} has no true depth between {nearest} and {farthest}; leave it out"
        )
    return [(p[k], t[k]) for p, t, k in zip(depth, true, known, strict=True)]


def _errors(p: np.ndarray, t: np.ndarray) -> tuple[float, ...]:
    off, log_off = p - t, np.log(p) - np.log(t)
    ratio = np.maximum(p / t, t / p)
    within = [float((ratio < 1.25**k).mean()) for k in (1, 2, 3)]
    means = (
        (np.abs(off) / t).mean(),
        (off**2 / t).mean(),
        np.sqrt((off**2).mean()),
        np.sqrt((log_off**2).mean()),
    )
    return (*(float(m) for m in means), *within)


def mean_depth(depths: np.ndarray) -> Float[np.ndarray, "height width"]:
    """Return the mean depth of each pixel over pictures `(picture, height, width)`: the best fixed guess.

    Unknown depths (0 or not finite) are left out; a pixel whose depth is never known gets the mean of all
    others. Raises InputError where no depth is known.

    Example:
        >>> cc.odometry.mean_depth(np.array([[[1.0, 2.0]], [[3.0, 0.0]]]))
        array([[2., 2.]])
    """
    values = np.asarray(depths, dtype=np.float64)
    known = np.isfinite(values) & (values > 0)
    if values.ndim != 3 or not known.any():
        raise InputError(
            f"depths have shape {values.shape}; expected (picture, height, width) with some depth known"
        )
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), values[known].mean())


def accumulate(steps: np.ndarray) -> Float[np.ndarray, "time 4 4"]:
    """Return the trajectory of steps `(time − 1, 4, 4)`, camera-to-world, the first camera being the world.

    Step i maps points of camera i + 1 to camera i. A network that looks from target i to source i + 1 gives
    the inverse of that. Raises InputError for another shape.

    Example:
        >>> steps = np.tile(np.eye(4), (3, 1, 1))
        >>> steps[:, 2, 3] = 0.5  # forward
        >>> cc.odometry.accumulate(steps)[:, 2, 3].tolist()
        [0.0, 0.5, 1.0, 1.5]
    """
    poses = [np.eye(4)]
    for step in _rigid(steps, "steps"):
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def steps_of(poses: np.ndarray) -> Float[np.ndarray, "steps 4 4"]:
    """Return the steps between camera-to-world poses `(time, 4, 4)`; what `accumulate` puts together again.

    Example:
        >>> poses = np.tile(np.eye(4), (3, 1, 1))
        >>> poses[:, 2, 3] = [0, 1, 3]
        >>> cc.odometry.steps_of(poses)[:, 2, 3].tolist()
        [1.0, 2.0]
    """
    world = _rigid(poses, "poses")
    return np.linalg.inv(world[:-1]) @ world[1:]


def zero_motion(time: int) -> Float[np.ndarray, "{time} 4 4"]:
    """Return the trajectory of a camera that stands still: what a prediction of motion must beat.

    Example:
        >>> cc.odometry.zero_motion(5).shape
        (5, 4, 4)
    """
    return np.tile(np.eye(4), (time, 1, 1))


def snippet_errors(
    predicted: np.ndarray, truth: np.ndarray, length: int = 5
) -> Float[np.ndarray, " snippet"]:
    """Return the absolute trajectory error of every snippet of `length` consecutive frames.

    Both are camera-to-world poses `(time, 4, 4)`. Positions p and p* are taken relative to the snippet's
    first camera, the predicted ones scaled by s = Σ p*·p / Σ p·p (0 where the prediction stands still), and
    the error is √(Σ |s·p − p*|²) / length, in the units of the truth.
    Raises InputError for shapes that do not match and fewer frames than a snippet has.
    Source: the evaluation of Zhou et al. 2017 (arXiv:1704.07813), which divides the root by the number of
    frames, not the sum under it.

    Example:
        >>> truth = np.tile(np.eye(4), (6, 1, 1))
        >>> truth[:, 2, 3] = range(6)
        >>> cc.odometry.snippet_errors(cc.odometry.zero_motion(6), truth, length=5).round(3).tolist()
        [1.095, 1.095]
    """
    estimate, true = _rigid(predicted, "predicted poses"), _rigid(truth, "true poses")
    if len(estimate) != len(true):
        raise InputError(f"{len(estimate)} predicted poses for {len(true)} true ones; give one per frame")
    if length < 2 or len(true) < length:
        raise InputError(
            f"{len(true)} frames for snippets of {length}; expected snippets of 2 or more, and as many frames"
        )
    return np.array(
        [_snippet(estimate[i : i + length], true[i : i + length]) for i in range(len(true) - length + 1)]
    )


def _snippet(predicted: np.ndarray, truth: np.ndarray) -> float:
    # Relative to the first camera both begin at the origin: a scale about it is all that is left to fit.
    p, t = (np.linalg.inv(poses[0])[:3] @ poses[:, :, 3, None] for poses in (predicted, truth))
    squares = float((p * p).sum())
    scale = float((p * t).sum()) / squares if squares > 0 else 0.0
    return float(np.sqrt(((scale * p - t) ** 2).sum())) / len(truth)


def rotation_errors(predicted: np.ndarray, truth: np.ndarray) -> Float[np.ndarray, " pair"]:
    """Return the angle between predicted and true rotations of each pair, in degrees.

    Transforms are taken too.

    Raises InputError for shapes that do not match.

    Example:
        >>> turn = cc.odometry.euler_to_matrix(torch.tensor([[0.0, np.pi / 6, 0.0]])).numpy()
        >>> cc.odometry.rotation_errors(turn, np.eye(3)[None]).round(3).tolist()
        [30.0]
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (predicted, truth))
    if a.shape != b.shape or a.shape[1:] not in ((3, 3), (4, 4)):
        raise InputError(
            f"rotations have shapes {a.shape} and {b.shape}; expected (pair, 3, 3) or (pair, 4, 4), both"
        )
    off = a[:, :3, :3].transpose(0, 2, 1) @ b[:, :3, :3]
    double_sine = np.stack(
        [off[:, 2, 1] - off[:, 1, 2], off[:, 0, 2] - off[:, 2, 0], off[:, 1, 0] - off[:, 0, 1]]
    )
    # Sine and cosine both: the arc cosine alone loses small angles to rounding.
    return np.degrees(np.arctan2(np.linalg.norm(double_sine, axis=0), np.trace(off, axis1=1, axis2=2) - 1))


def _rigid(transforms: np.ndarray, what: str) -> np.ndarray:
    matrices = np.asarray(transforms, dtype=np.float64)
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4):
        raise InputError(f"{what} have shape {matrices.shape}; expected (time, 4, 4)")
    if not np.isfinite(matrices).all():
        raise InputError(f"{what} are not finite; look for NaN in what the network returns")
    return matrices
