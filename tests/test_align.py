"""Receptive-field alignment: where a cell of a map really lies in the input."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.video import r3d_18

import chronocam as cc
from chronocam.errors import InputError, LayoutError


def centers(model, x, layer=None):
    return cc.GradCAM(model, layer, align="receptive_field").explain(x, lambda y: y.flatten(1)[:, 0]).centers


def probed(model, layer, x, cell):
    """The middle of the input extent on which one cell depends, found with gradients alone."""
    x = x.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.append(o))
    model(x)
    handle.remove()
    kept[0][(0, slice(None), *cell)].sum().backward()
    touched = x.grad[0].abs().sum(0)
    axes = [tuple(j for j in range(touched.ndim) if j != i) for i in range(touched.ndim)]
    extents = [torch.nonzero(touched.sum(a)).flatten() for a in axes]
    return [(float(e.min()) + float(e.max())) / 2 for e in extents]


class Odd(nn.Module):
    """Strides, dilation, padding, a functional pooling, a residual branch with a wider field, and a gate."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, (5, 3), stride=(2, 1), padding=(0, 1))
        self.b = nn.Conv2d(4, 4, 3, dilation=2, padding=2)
        self.skip = nn.Conv2d(4, 4, 1)
        self.end = nn.Identity()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.avg_pool2d(self.a(x), (3, 2), stride=2, padding=(1, 0))
        x = F.softplus(self.b(x)) + self.skip(x)
        x = self.end(x * x.mean((2, 3), keepdim=True).sigmoid())
        return self.head(x.mean((2, 3)))


def test_centres_of_a_network_with_everything_equal_those_found_by_gradients():
    torch.manual_seed(0)
    model, x = Odd().eval().double(), torch.randn(1, 2, 61, 40, dtype=torch.double)
    rows, columns = centers(model, x, "b")
    for cell in ((4, 5), (6, 9)):
        assert probed(model, "b", x, cell) == [rows[cell[0]], columns[cell[1]]]
    # After the gate every cell depends on the whole input, but it lies where its local path does.
    assert centers(model, x, "end") == (rows, columns)


def test_known_alignment_of_resnets():
    rows, columns = centers(models.resnet18().eval(), torch.randn(1, 3, 64, 96), "layer4")
    assert rows == (0, 32)
    assert columns == (0, 32, 64)
    time, rows, _ = centers(r3d_18().eval(), torch.randn(1, 3, 16, 32, 32), "layer4")
    assert time == (0, 8)
    assert rows == (0, 16)


def test_densenet_and_convnext_are_read_too():
    assert centers(models.densenet121().eval(), torch.randn(1, 3, 64, 64), "features")[0] == (14, 46)
    assert centers(models.convnext_tiny().eval(), torch.randn(1, 3, 64, 64), "features")[0] == (15.5, 47.5)


def dot_network():
    """Stride 8 with cell centres at pixels 0, 8, 16, …: a map of where the input is bright."""
    convs = []
    for _ in range(3):
        conv = nn.Conv2d(1, 1, 3, stride=2, padding=1)
        nn.init.constant_(conv.weight, 1 / 9)
        nn.init.zeros_(conv.bias)
        convs += [conv, nn.ReLU()]
    head = nn.Linear(1, 1, bias=False)
    nn.init.ones_(head.weight)
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


@pytest.mark.parametrize("at", [(16, 40), (32, 24)])
def test_a_dot_is_found_where_it_is_only_with_receptive_field_alignment(at):
    x = torch.zeros(1, 1, 64, 64)
    x[0, 0, at[0], at[1]] = 1

    def peak(align):
        fine = cc.GradCAM(dot_network(), "5", align=align).explain(x, 0).upsample(mode="linear")[0, 0]
        return np.unravel_index(fine.argmax(), fine.shape)

    assert peak("receptive_field") == at
    assert np.abs(np.subtract(peak("half_pixel"), at)).max() in (3, 4)  # half a stride, less half a pixel


def test_attention_is_refused_in_one_line():
    with pytest.raises(LayoutError, match='not local; use align="half_pixel"') as caught:
        centers(models.swin_t().eval(), torch.randn(1, 3, 64, 64))
    assert "\n" not in str(caught.value)


def test_unknown_alignment_is_refused_at_construction():
    with pytest.raises(InputError, match="no alignment `corner`"):
        cc.GradCAM(models.resnet18(), align="corner")


def test_fused_layers_are_refused():
    with pytest.raises(InputError, match="fused layers are aligned by half pixels only"):
        cc.GradCAM(dot_network(), ["1", "5"], align="receptive_field")


def test_pixel_maps_and_their_upsampling_are_not_shifted():
    model, x = dot_network(), torch.rand(1, 1, 32, 32)
    plain = cc.Saliency(model).explain(x, 0)
    aligned = cc.Saliency(model, align="receptive_field").explain(x, 0)
    assert aligned.centers is None
    np.testing.assert_array_equal(plain.upsample(), aligned.upsample())


def test_guided_gradcam_is_upsampled_at_the_true_centres():
    model, x = dot_network(), torch.rand(1, 1, 32, 32)
    half, true = (cc.GuidedGradCAM(model, "5", align=a).explain(x, 0).maps for a in ("half_pixel", "receptive_field"))
    assert not np.allclose(half, true)
