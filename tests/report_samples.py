"""Explanations made by hand for the tests of pages: no model, every number known."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from chronocam import Explanation
from chronocam.maps.attention import Attention
from chronocam.maps.frames import frame_spans
from chronocam.media import Clip, still, stills
from chronocam.sequence import SequenceExplanation
from chronocam.targets.steps import StepInfo
from chronocam.types import TargetInfo
from chronocam.types.findings import note


def photo(height, width, seed=0):
    """Return a smooth picture, which JPEG keeps well."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def of_image(samples=1, names=("cat", "dog"), grid=(5, 7), size=(60, 90), seed=0, signed=False, centers=None):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(samples, len(names), *grid)).astype(np.float32)
    infos = tuple(tuple(TargetInfo(name, k) for k, name in enumerate(names)) for _ in range(samples))
    scores = rng.normal(size=(samples, len(names))).astype(np.float32)
    return Explanation(
        maps if signed else np.abs(maps),
        scores,
        infos,
        "gradcam",
        "layer4",
        size,
        centers=centers,
        findings=(note("the evidence at `layer4` is thin"),),
        confidences=np.linspace(0.1, 0.9, scores.size, dtype=np.float32).reshape(scores.shape),
    )


def clip_of(frames=16, height=330, width=480, seed=0):
    pixels = np.stack([photo(height, width, seed + i) for i in range(frames)])
    numbers = np.arange(frames)
    return Clip(pixels, numbers / 8, 8.0, numbers, Path("a clip.mp4"))


def of_clip(frames=16, slices=4, names=("wave", "clap", "nod"), grid=(5, 6), attention=True, seed=0):
    rng = np.random.default_rng(seed)
    maps = np.abs(rng.normal(size=(1, len(names), slices, *grid))).astype(np.float32)
    weights = rng.dirichlet(np.ones(frames), 1).astype(np.float32)
    infos = (tuple(TargetInfo(name, k) for k, name in enumerate(names)),)
    return Explanation(
        maps,
        rng.normal(size=(1, len(names))).astype(np.float32),
        infos,
        "gradcam",
        "cnn.layer4",
        (frames, 110, 160),
        frame_spans=frame_spans(slices, frames),
        attention=Attention(weights, rng.normal(size=(1, len(names), frames)).astype(np.float32))
        if attention
        else None,
    )


def of_sequence(steps=12, features=9, seed=0):
    rng = np.random.default_rng(seed)
    relevance = (
        rng.normal(size=(1, steps, steps, features)) * np.tril(np.ones((steps, steps)))[None, :, :, None]
    )
    total, bias = relevance.sum(axis=(2, 3)), rng.normal(size=(1, steps))
    infos = (tuple(StepInfo(f"walk at step {t}", 2, step=t, vote=2) for t in range(steps)),)
    ledger = {"input": total, "initial_state": np.zeros_like(total), "bias": bias, "stabiliser": 0.01 * bias}
    return SequenceExplanation(relevance, sum(ledger.values()), infos, "lrp", ledger)


def kept(explanation, seen=None, seed=0):
    """Return an explanation of one image with its picture, of which the model saw a part."""
    return explanation.with_pictures([still(photo(360, 520, seed), "a photo.jpg", seen)])


def kept_clip(explanation, frames=16, seed=0):
    return explanation.with_pictures([stills(clip_of(frames, seed=seed))])


def data_of(page):
    """Return the data that a page holds."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    return file.getvalue()
