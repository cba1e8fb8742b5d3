"""Do maps of a predicted region lie in it? A real segmentation network (DeepLabv3, VOC) on photographs.

For each class that the network predicts on 2 % of a photo or more, the score is the mean logit over that
region: what share of the map's energy lies in the region, at the logits, at the last features before them and
at the end of the backbone, with weights pooled over the grid (Seg-Grad-CAM) and elementwise. Means with 95 %
bootstrap intervals over regions, beside the share of the photo that the region covers.

Needs the data that the tests use: CHRONOCAM_DATA, or ../shared/data beside the project. Run it with
`python -m benchmarks.segmentation`.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from importlib import import_module

import click
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

import chronocam as cc
from benchmarks.localisation import annotated
from chronocam.metrics import bootstrap, energy_inside

SIDE = 257
LEAST = 0.02
LAYERS = {"the default": None, "logits": "classifier", "last features": "project", "backbone": "blocks"}


@click.command()
@click.option("--photos", "most", type=int, help="How many photos; all without it.")
def main(most: int | None) -> None:
    torch.set_num_threads(1)
    data, _ = annotated()
    sys.path.insert(0, str(data / "segmentation"))
    from safetensors.torch import load_file

    net = import_module("deeplab_voc").DeepLabVOC()
    net.load_state_dict(load_file(data / "segmentation/deeplab_voc.safetensors"))
    net.eval()
    judged: dict[str, list[float]] = defaultdict(list)
    chosen: Counter[str] = Counter()
    files = sorted((data / "coco/images").glob("*.jpg"))[:most]
    for path in track(files, "Photos", console=Console(stderr=True), transient=True):
        picture = np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE)))
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            labels = net(x)[0].argmax(0).numpy()
        for index in np.unique(labels):
            region = labels == index
            if index == 0 or region.mean() < LEAST:
                continue
            judged["(share of the photo)"].append(float(region.mean()))
            for where, layer in LAYERS.items():
                found = cc.explain(
                    net,
                    x,
                    cc.targets.Region.predicted(int(index)),
                    methods=["hirescam", "gradcam"],
                    layers=None if layer is None else [layer],
                )
                for name, one in found.items():
                    judged[f"{name} at {where}"].append(
                        float(energy_inside(one.upsample()[0, 0].clip(0), region))
                    )
                    if layer is None:
                        chosen[one.layer] += 1
    print(f"{len(judged['(share of the photo)'])} regions; the default layer is {dict(chosen)}")
    for name, values in judged.items():
        known = [value for value in values if np.isfinite(value)]
        print(f"  {name:28} energy in the region {bootstrap(known)}, {len(known)} maps")


if __name__ == "__main__":
    main()
