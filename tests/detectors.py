"""Detectors for tests: a toy whose truth is known, and small random ones of each family."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Spots(nn.Module):
    """Finds coloured cells of 4 × 4 pixels: a cell sees itself alone, so that boxes see disjoint places.

    Returns rows `(batch, 64, 4 + 1 + 2)`, of 8 × 8 cells: corners in pixels, objectness and logits of red and
    green; for each level that is asked for, cells of twice the size follow.
    """

    labels = ("red", "green")

    def __init__(self, levels: int = 1) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Conv2d(3, 4, 4 * 2**k, 4 * 2**k) for k in range(levels))
        self.heads = nn.ModuleList(nn.Conv2d(4, 3, 1) for _ in range(levels))
        with torch.no_grad():
            for k, (body, head) in enumerate(zip(self.body, self.heads, strict=True)):
                body.weight.zero_()
                body.bias.zero_()
                for colour in range(3):
                    body.weight[colour, colour] = 1 / (16 * 4**k)
                body.weight[3] = 1 / (16 * 4**k)
                head.weight.copy_(
                    torch.tensor([[0, 0, 0, 9.0], [9, -9, 0, 0], [-9, 9, 0, 0]])[..., None, None]
                )
                head.bias.copy_(torch.tensor([-6.0, -3, -3]))

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for k, (body, head) in enumerate(zip(self.body, self.heads, strict=True)):
            out = head(body(x).relu())
            h, w = out.shape[2:]
            y, x_ = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            centre = (torch.stack([x_, y], -1).reshape(1, -1, 2).to(out) + 0.5) * 4 * 2**k
            half = 3.0 * 2**k + 0 * out[:, :1].flatten(2).transpose(1, 2)
            rows.append(torch.cat([centre - half, centre + half, out.flatten(2).transpose(1, 2)], -1))
        return torch.cat(rows, 1)


def two_spots() -> Tensor:
    """Return two black pictures of 32 × 32: a red and a green cell in the first, a red one in the second."""
    photos = torch.zeros(2, 3, 32, 32)
    photos[0, 0, 4:8, 4:8] = 1
    photos[0, 1, 20:24, 24:28] = 0.9
    photos[1, 0, 12:16, 8:12] = 1
    return photos


def flipped_rows(out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Read rows of the toy whose classes stand in the other order."""
    return out[..., :4], out[..., [6, 5]], out[..., 4]


class Levels(nn.Module):
    """A backbone of three levels, of strides 8, 16 and 32, as torchvision's detectors want it."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.out_channels = n = channels
        self.stem = nn.Conv2d(3, n, 8, 8)
        self.down = nn.ModuleList([nn.Conv2d(n, n, 3, 2, 1), nn.Conv2d(n, n, 3, 2, 1)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = [torch.tanh(self.stem(x))]
        for down in self.down:
            maps.append(torch.tanh(down(maps[-1])))
        return OrderedDict((str(k), one) for k, one in enumerate(maps))


def _anchors() -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    return AnchorGenerator(((16,), (32,), (48,)), ((1.0,),) * 3)


def _two_stage(name: str, **more: Any) -> nn.Module:
    import torchvision.models.detection as D
    from torchvision.ops import MultiScaleRoIAlign

    pool = MultiScaleRoIAlign(["0", "1", "2"], 3, 2, canonical_scale=24, canonical_level=4)
    return getattr(D, name)(
        Levels(),
        num_classes=None if more.get("box_predictor") else 4,
        rpn_anchor_generator=_anchors(),
        box_roi_pool=pool,
        box_head=D.faster_rcnn.TwoMLPHead(8 * 9, 16),
        box_predictor=D.faster_rcnn.FastRCNNPredictor(16, 4),
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=20,
        **(SIZES | {key: value for key, value in more.items() if key != "box_predictor"}),
    )


SIZES = {"min_size": 96, "max_size": 160}


def _faster() -> nn.Module:
    return _two_stage("FasterRCNN", box_predictor=True)


def _mask() -> nn.Module:
    import torchvision.models.detection as D
    from torchvision.ops import MultiScaleRoIAlign

    return _two_stage(
        "MaskRCNN",
        box_predictor=True,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 6, 2),
        mask_head=D.mask_rcnn.MaskRCNNHeads(8, (8,), 1),
        mask_predictor=D.mask_rcnn.MaskRCNNPredictor(8, 8, 4),
    )


def _keypoint() -> nn.Module:
    import torchvision.models.detection as D
    from torchvision.ops import MultiScaleRoIAlign

    return _two_stage(
        "KeypointRCNN",
        box_predictor=True,
        keypoint_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 6, 2),
        keypoint_head=D.keypoint_rcnn.KeypointRCNNHeads(8, (8,)),
        keypoint_predictor=D.keypoint_rcnn.KeypointRCNNPredictor(8, 3),
    )


def _retina() -> nn.Module:
    import torchvision.models.detection as D

    return D.RetinaNet(Levels(), 4, anchor_generator=_anchors(), **SIZES)


def _fcos() -> nn.Module:
    import torchvision.models.detection as D

    return D.fcos.FCOS(Levels(32), 4, anchor_generator=_anchors(), **SIZES)


def _ssd() -> nn.Module:
    import torchvision.models.detection as D
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    head = D.ssd.SSDHead([8, 8, 8], [4, 4, 4], 4)
    return D.ssd.SSD(Levels(), DefaultBoxGenerator([[2], [2], [2]]), (96, 96), 4, head=head)


def _ssdlite() -> nn.Module:
    import torchvision.models.detection as D
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    head = D.ssdlite.SSDLiteHead([8, 8, 8], [4, 4, 4], 4, nn.BatchNorm2d)
    return D.ssd.SSD(Levels(), DefaultBoxGenerator([[2], [2], [2]]), (96, 96), 4, head=head)


TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "faster": _faster,
    "mask": _mask,
    "keypoint": _keypoint,
    "retina": _retina,
    "fcos": _fcos,
    "ssd": _ssd,
    "ssdlite": _ssdlite,
}


def random_detector(name: str, seed: int = 0) -> nn.Module:
    """Return a small detector of torchvision that finds something, and no two scores alike."""
    torch.manual_seed(seed)
    net = TORCHVISION[name]().eval()
    with torch.no_grad():
        for path, parameter in net.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
            if path.endswith("cls_logits.bias"):
                parameter.zero_()
            if "bbox_pred" in path or "regression_head" in path:
                parameter.mul_(0.3)
    return net


def spots() -> tuple[nn.Module, Any, list[str]]:
    """Return the toy as a spec gives it: for pictures of any size, which are squeezed to 32 × 32."""
    from chronocam.media import Preprocess

    return Spots(), Preprocess(resize=(32, 32), crop=None, mean=(0, 0, 0), std=(1, 1, 1)), ["red", "green"]
