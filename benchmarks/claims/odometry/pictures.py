"""The pictures of docs/odometry.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.claims.odometry.measures import loss_maps, photometric_errors
from benchmarks.claims.odometry.real import NAMES, Real
from benchmarks.claims.odometry.world import SHALLOW, Pairs, explained, prepared
from chronocam.lab.data.drives import drive
from chronocam.lab.models.odometry import Odometry
from chronocam.media.files import replace_file
from chronocam.odometry import accumulate, pose_to_matrix
from chronocam.render import overlay, strength

ARMS = (f"hirescam, {SHALLOW}", f"layercam, {SHALLOW}", "inputxgradient, input")
DEEPEST = 20.0  # metres, the darkest of the depth pictures
TRAJECTORIES, FRAMES = 4, 24


def laid(picture: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Lay one signed map over a picture, on its own scale."""
    return overlay(picture, strength(value[None, None], "sample")[0, 0], signed=True)


def sheet(
    cells: Sequence[Sequence[tuple[str, np.ndarray]]], path: Path, masks: np.ndarray | None = None
) -> Path:
    """Draw rows of titled pictures; outlines of a mask on every one."""
    figure = Figure(figsize=(3.6 * len(cells[0]), 1.45 * len(cells)), layout="constrained")
    axes = figure.subplots(len(cells), len(cells[0]), squeeze=False)
    for line, row in zip(axes, cells, strict=True):
        for axis, (title, picture) in zip(line, row, strict=True):
            axis.imshow(picture, cmap="inferno")
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
            if masks is not None:
                axis.contour(masks, [0.5], colors="#00e5ff", linewidths=0.9)
    return small(figure, path, 84)


def small(figure: Figure, path: Path, dpi: int) -> Path:
    """Write a figure in 256 colours, dithered: half of the size."""
    with BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=dpi)
        picture = Image.open(buffer).convert("RGB")
    palette = picture.quantize(256, Image.Quantize.FASTOCTREE)
    reduced = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return replace_file(path, lambda temporary: reduced.save(temporary, format="png", optimize=True))


def draw_drive(network: Odometry, pairs: Pairs, index: int, path: Path) -> Path:
    """Draw a drive: its frames, depth, and maps of tz, ry and the loss."""
    one = pairs.some(slice(index, index + 1))
    maps = explained(network, one, ("tz", "ry", "loss"))
    with torch.inference_mode():
        depth = network.depth(one.frames[:, :3])[0, 0].numpy()
    known = one.depth[0] > 0
    depth = depth * np.median(one.depth[0][known]) / np.median(depth[known])
    inverse = [np.where(d > 0, 1 / np.maximum(d, 1 / DEEPEST), 0) for d in (one.depth[0], depth)]
    first = [
        ("frame", one.pixels[0, 0]),
        ("true inverse depth", inverse[0]),
        ("inverse depth, scaled", inverse[1]),
    ]
    rows = [
        [(f"{name}: {arm}", laid(one.pixels[0, 0], maps[arm][0, k])) for arm in ARMS]
        for k, name in enumerate(("tz", "ry", "loss"))
    ]
    return sheet([first, *rows], path)


def draw_wall(network: Odometry, plain: Pairs, textured: Pairs, index: int, path: Path) -> Path:
    """Draw a wall without texture and with it, and maps of both."""
    rows = []
    for name, pairs in (("plain", plain), ("textured", textured)):
        one = pairs.some(slice(index, index + 1))
        maps = explained(network, one, ("tz", "ry"))
        for k, target in enumerate(("tz", "ry")):
            frame = one.pixels[0, 0]
            rows.append(
                [(f"{name} wall", frame), *((f"{target}: {a}", laid(frame, maps[a][0, k])) for a in ARMS)]
            )
    return sheet(rows, path, plain.plain[index])


def draw_mover(network: Odometry, moving: Pairs, index: int, path: Path) -> Path:
    """Draw an object that moves by itself, the photometric error, and maps of the negative loss."""
    one = moving.some(slice(index, index + 1))
    frame, (maps, _) = one.pixels[0, 0], loss_maps(network, one)
    names = (f"PoseNet, hirescam, {SHALLOW}", "PoseNet, inputxgradient, input", "DepthNet, hirescam, iconv3",
             "DepthNet, hirescam, predict_disp1", "DepthNet, layercam, predict_disp1")  # fmt: skip
    cells = [
        ("frame", frame),
        *((name, error[0]) for name, error in photometric_errors(network, one).items()),
    ]
    cells += [(name, laid(frame, maps[name][0])) for name in names]
    return sheet([cells[i : i + 3] for i in range(0, len(cells), 3)], path, one.moving[0])


def draw_trajectories(network: Odometry, path: Path) -> Path:
    """Draw longer drives from above: the true way, and the predicted one scaled to its length."""
    figure = Figure(figsize=(3 * TRAJECTORIES, 3.2), layout="constrained")
    for index, axis in enumerate(figure.subplots(1, TRAJECTORIES)):
        ride = drive(index, frames=FRAMES, plain=False, moving=False, exposure=False)
        frames = prepared(ride.pixels[:, None])
        with torch.inference_mode():
            poses = network.pose(torch.cat([frames[:-1], frames[1:]], dim=1))
        predicted = accumulate(np.linalg.inv(pose_to_matrix(poses).double().numpy()))[:, :3, 3]
        assert ride.poses is not None
        true = ride.poses[:, :3, 3]
        predicted *= max((true * predicted).sum(), 0) / max((predicted * predicted).sum(), 1e-12)
        for name, way, colour in (("true", true, "0.3"), ("network, scaled", predicted, "#D55E00")):
            axis.plot(way[:, 0], way[:, 2], ".-", color=colour, label=name, markersize=3)
        axis.set(aspect="equal", xlabel="x (m)", ylabel="z (m)", adjustable="datalim")
        axis.set_title(f"test drive {index}, {FRAMES} frames", fontsize=9)
        axis.legend(fontsize=7)
    return small(figure, path, 100)


def draw_real(folders: Sequence[Real], path: Path) -> Path:
    """Draw the first real pair of every folder with its maps."""
    arms = [arm for arm in folders[0].maps if SHALLOW in arm and "grad" not in arm] + ["inputxgradient"]
    rows = []
    for real in folders:
        for name in ("tz", "ry"):
            maps = [
                (f"{name}: {arm}", laid(real.pixels[0], real.maps[arm][0, NAMES.index(name)])) for arm in arms
            ]
            rows.append([(real.name, real.pixels[0]), *maps])
    return sheet(rows, path)


def chosen(values: np.ndarray, value: float) -> int:
    """Return the drive whose value is nearest to the one that shows well."""
    return int(np.abs(values - value).argmin())


def draw_all(network: Odometry, scenes: Mapping[str, Pairs], real: Sequence[Real], folder: Path) -> list[Any]:
    """Draw everything."""
    textured, plain, moving = (scenes[name] for name in ("textured", "plain", "moving"))
    turn = np.linalg.norm(textured.transforms[:, :3, :3] - np.eye(3), axis=(1, 2))
    pictures = [
        draw_drive(network, textured, chosen(turn, np.quantile(turn, 0.8)), folder / "odometry-drive.png"),
        draw_wall(
            network, plain, textured, chosen(plain.plain.mean((1, 2)), 0.2), folder / "odometry-wall.png"
        ),
        draw_mover(network, moving, chosen(moving.moving.mean((1, 2)), 0.08), folder / "odometry-mover.png"),
        draw_trajectories(network, folder / "odometry-trajectory.png"),
    ]
    return [*pictures, draw_real(real, folder / "odometry-real.png")] if real else pictures
