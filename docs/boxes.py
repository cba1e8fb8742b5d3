"""Draws the picture of docs/detectors.md: `python docs/boxes.py`, from the project's folder.

Two people in one photo, each explained by ODAM and by Grad-CAM; the data and YOLOX-nano are those of
`benchmarks.detectors`. The photo is 000000000872 of COCO val2017, CC BY 2.0.
"""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file

import chronocam as cc
from benchmarks.detectors import letterboxed
from benchmarks.localisation import annotated
from chronocam.render import contact_sheet, save_figure
from chronocam.render.boxes import outline

PHOTO = "000000000872"
FILE = Path(__file__).parent / "images" / "detectors-twins.jpg"


def main() -> None:
    """Draw a row for each method, and a column for each box."""
    data, _ = annotated()
    sys.path.insert(0, str(data / "detector"))
    net = import_module("yolox_nano").YOLOXNano().eval()
    net.load_state_dict(load_file(data / "detector/yolox_nano.safetensors"))
    path = data / f"coco/images/{PHOTO}.jpg"
    x, scale = letterboxed(path)
    photo = Image.open(path).convert("RGB")
    height, width = (round(side * scale) for side in (photo.height, photo.width))
    people = [one for one in cc.detect(net, x, labels=["person"]) if one.label == "person"][:2]
    rows, titles = [], []
    for name in ("odam", "gradcam"):
        explanation = cc.explain(net, x, cc.targets.Boxes(people), methods=name)[name]
        padded = np.pad(np.asarray(photo.resize((width, height))), ((0, x.shape[2] - height), (0, 0), (0, 0)))
        overlays = [Image.fromarray(one) for one in explanation.overlay(padded[None])[0]]
        for overlay, one in zip(overlays, people, strict=True):
            outline(overlay, one.box, tuple(x.shape[2:]))
        rows.append([np.asarray(overlay)[:height, :width] for overlay in overlays])
        titles.append([f"{name}, {one.label} {one.score:.0%}" for one in people])
    save_figure(contact_sheet(rows, titles), FILE, dpi=90)


if __name__ == "__main__":
    main()
