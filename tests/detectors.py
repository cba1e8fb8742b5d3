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


class Head(nn.Module):
    """The last layer of a network that is a list: it names the layers that it reads, and their strides.

    kind: `"cells"`, rows beside class logits; `"maps"`, beside maps of each level; `"end"`, the best rows,
    which it keeps; `"turned"`, with an angle; `"turned end"`; `"masks"`, with coefficients; `"objectness"`,
    rows first; `"queries"`.
    """

    nc, nl, f = 3, 2, (0, 1)

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.f = list(self.f)
        self.stride = torch.tensor([4.0, 8.0])
        self.end2end = "end" in kind
        if "turned" in kind:
            self.ne = 1
        if kind == "objectness":
            self.no = self.nc + 5
        if kind == "queries":
            self.num_queries = 12
        self.box, self.logits, self.extra = (
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, n, 1)) for _ in range(2)
            )
            for n in (4, self.nc, 2)
        )

    def _boxes(self, maps: list[Tensor], corners: bool) -> Tensor:
        every = []
        for at, one in enumerate(maps):
            h, w = one.shape[2:]
            y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            centre = (torch.stack([x, y]).reshape(1, 2, -1).to(one) + 0.5) * self.stride[at]
            out = nn.functional.softplus(self.box[at](one).flatten(2)) * self.stride[at]
            low, high = centre - out[:, :2], centre + out[:, 2:]
            every.append(torch.cat([low, high] if corners else [(low + high) / 2, high - low], 1))
        return torch.cat(every, 2)

    def forward(self, maps: list[Tensor]) -> Any:
        by_level = [of(one) for of, one in zip(self.logits, maps, strict=True)]
        scores = torch.cat([one.flatten(2) for one in by_level], 2)
        boxes = self._boxes(maps, self.kind == "end")
        extra = torch.cat([of(one).flatten(2) for of, one in zip(self.extra, maps, strict=True)], 2)
        beside: Any = {"scores": scores, "feats": maps}
        if self.kind in ("end", "turned end", "queries"):
            best, order = scores.sigmoid().flatten(1).topk(100)
            cell, index = order % scores.shape[2], order // scores.shape[2]
            rows = torch.cat([boxes, extra[:, :1]], 1).gather(2, cell[:, None].expand(-1, 5, -1))
            rows = rows.transpose(1, 2)
            kept = torch.cat([rows[..., :4], best[..., None], index[..., None].to(best)], -1)
            if self.kind == "queries":
                kept = torch.cat([kept[..., :4] / 32, kept[..., 4:]], -1)
            return (
                torch.cat([kept, rows[..., 4:]], -1) if "turned" in self.kind else kept,
                {"one2many": {"scores": -scores}, "one2one": beside},
            )
        rows = torch.cat([boxes, scores.sigmoid()], 1)
        if self.kind == "objectness":
            rows = torch.cat([boxes, extra[:, :1].sigmoid(), scores.sigmoid()], 1)
            return rows.transpose(1, 2), []
        if self.kind in ("turned", "masks"):
            rows = torch.cat([rows, extra[:, :1] if self.kind == "turned" else extra], 1)
        if self.kind == "maps":
            beside = [torch.cat([of(one), b], 1) for of, one, b in zip(self.box, maps, by_level, strict=True)]
        return ((rows, extra) if self.kind == "masks" else rows), beside


class Listed(nn.Module):
    """A network that is a list of layers, as YOLO's are: two levels of strides 4 and 8, and a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Tanh()),
            nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1), nn.Tanh()),
            Head(kind),
        )
        self.names = {0: "cat", 1: "dog", 2: "cow"}

    def forward(self, x: Tensor) -> Any:
        first = self.model[0](x)
        return self.model[2]([first, self.model[1](first)])
