"""FullGrad: all that is attributed is the score, and the map is what hooks and autograd say."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import close
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import LayerError, ModelError
from chronocam.maps.arrays import to_numpy
from chronocam.types import View


class Block(nn.Module):
    """All that is linear in pieces: norms, ReLU6, leaks, a residual, branches, a layer called twice."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        norm: Any = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
        self.pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        self.stem, self.norm, self.act = conv(3, 6, 3, 1, 1), norm(6), nn.ReLU6(inplace=True)
        self.a, self.plain, self.leaky = conv(6, 6, 3, 1, 1), norm(6, affine=False), nn.LeakyReLU(0.2)
        self.clip, self.head = nn.Hardtanh(-0.4, 0.3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(8 * self.norm(self.stem(x))), 2)
        x = self.leaky(x + self.plain(self.a(x)))
        x = torch.cat([self.a(x)[:, :3], self.clip(x)[:, 3:]], 1)
        return self.head(x.flatten(2).mean(2))


def seeded(rank: int) -> tuple[Block, Tensor]:
    torch.manual_seed(0)
    net, shape = Block(rank).double(), (3, *(8, 6, 4)[:rank])
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        net.norm.weight.uniform_(0.5, 2.0)
        net.norm.bias.uniform_(-1.0, 1.0)
        for _ in range(3):
            net(x)  # moves the statistics of the norms
    return net.eval(), x


class Terms(cc.FullGrad):
    """Keeps what was added up."""

    def maps(self, view: View) -> Any:
        (capture,) = view.captures
        self.terms = [capture.gradients * capture.activations[:, None], *capture.biases]
        return super().maps(view)


def total(method: Terms) -> np.ndarray:
    return np.asarray(sum(to_numpy(term).reshape(*term.shape[:2], -1).sum(2) for term in method.terms))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_all_terms_add_up_to_the_score(rank: int) -> None:
    net, x = seeded(rank)
    method = Terms(net)
    explanation = method.explain(x, np.array([[0, 1, 2, 3]] * 2))
    np.testing.assert_allclose(total(method), net(x).detach().numpy(), rtol=1e-10, atol=1e-10)
    assert explanation.maps.shape == (2, 4, *x.shape[2:])
    assert not explanation.findings


def test_the_map_is_made_of_the_gradients_of_each_layer() -> None:
    net, x = seeded(2)
    terms: list[tuple[Tensor, Tensor]] = []

    def keep(bias: Any) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            terms.append((output, bias(output)))
            return output.clone()

        return hook

    def shift(norm: Any) -> Tensor:
        scale = (norm.weight if norm.affine else 1.0) / (norm.running_var + norm.eps).sqrt()
        return ((norm.bias if norm.affine else 0.0) - norm.running_mean * scale)[:, None, None]

    handles = [
        net.stem.register_forward_hook(keep(lambda y: net.stem.bias[:, None, None])),
        net.norm.register_forward_hook(keep(lambda y: shift(net.norm))),
        net.act.register_forward_hook(keep(lambda y: 6.0 * (y == 6))),
        net.a.register_forward_hook(keep(lambda y: net.a.bias[:, None, None])),
        net.plain.register_forward_hook(keep(lambda y: shift(net.plain))),
        net.clip.register_forward_hook(keep(lambda y: 0.3 * (y == 0.3) - 0.4 * (y == -0.4))),
    ]
    x = x.requires_grad_()
    score = net(x)[:, 1].sum()
    for handle in handles:
        handle.remove()
    for rescale in (False, True):
        expected = np.zeros((2, 8, 6))
        (at_input,) = torch.autograd.grad(score, x, retain_graph=True)
        for term in [
            x * at_input,
            *(b * torch.autograd.grad(score, y, retain_graph=True)[0] for y, b in terms),
        ]:
            strength = term.detach().abs()
            if rescale:
                flat = strength.flatten(1)
                low, high = (v[:, None, None, None] for v in (flat.min(1).values, flat.max(1).values))
                strength = (strength - low) / torch.where(high > low, high - low, 1.0)
            one = strength.sum(1, keepdim=True)
            up = F.interpolate(one, (8, 6), mode="bilinear", align_corners=False)
            expected += up[:, 0].numpy()
        found = cc.FullGrad(net, rescale=rescale).explain(x.detach(), 1)
        close(found.maps[:, 0], expected, 1e-5)


def test_a_smooth_activation_is_told_with_the_gap() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    (finding,) = cc.FullGrad(net).explain(torch.rand(1, 3, 8, 8), 1).findings
    assert "adds up to" in finding.text
    assert "linear in pieces" in finding.text


class OnTokens(nn.Module):
    """Patches with a class token, as transformers have; what that token adds has no place on the grid."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.mix, self.head = nn.Conv2d(3, 5, 4, 4), nn.Linear(5, 5), nn.Linear(5, 3)
        self.token = nn.Parameter(torch.zeros(1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        mixed = self.mix(torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)).relu()
        return self.head(mixed[:, 0] + mixed[:, 1:].amax(1))


class Folded(nn.Module):
    """Frames folded into the batch, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.conv(x.flatten(0, 1)).relu().mean((2, 3))
        return self.head(frames).view(*x.shape[:2], -1).mean(1)


class Stepped(Folded):
    """The same frame by frame: a layer called once per step."""

    def forward(self, x: Tensor) -> Tensor:
        steps = [self.head(self.conv(frame).relu().mean((2, 3))) for frame in x.unbind(1)]
        return torch.stack(steps).mean(0)


@pytest.mark.parametrize(
    ("net", "shape", "bias_terms"),
    [(OnTokens, (3, 12, 12), 4), (Folded, (5, 3, 8, 8), 2), (Stepped, (5, 3, 8, 8), 6)],
)
def test_what_has_no_place_on_the_grid_still_counts(
    net: Any, shape: tuple[int, ...], bias_terms: int
) -> None:
    torch.manual_seed(0)
    model, x = net().double().eval(), torch.rand(2, *shape, dtype=torch.float64)
    method = Terms(model)
    explanation = method.explain(x, 2)
    np.testing.assert_allclose(total(method)[:, 0], model(x)[:, 2].detach().numpy(), rtol=1e-10)
    assert len(method.terms) == 1 + bias_terms
    assert not explanation.findings


def test_an_auxiliary_head_adds_nothing() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.aux, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            a = self.conv(x).relu()
            return {"logits": self.head(a.mean((2, 3))), "aux": self.aux(a)}

    torch.manual_seed(0)
    assert not cc.FullGrad(Two().eval()).explain(torch.rand(1, 3, 8, 8), 1).findings


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_norms_that_hold_an_activation(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=3).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.bias.uniform_(0.0, 1.0)
    method, x = Terms(net), torch.rand(1, 3, 32, 32, dtype=torch.float64)
    method.explain(x, 1)
    np.testing.assert_allclose(total(method)[0, 0], float(net(x)[0, 1].detach()), rtol=1e-9)


def test_a_norm_in_training_mode_and_a_layer_are_refused_in_one_line() -> None:
    net, x = seeded(2)
    with pytest.raises(ModelError, match=r"`norm` normalises by the batch.*eval"):
        cc.FullGrad(net.train()).explain(x, 1)
    with pytest.raises(LayerError, match="leave conv_layer out"):
        cc.FullGrad(net, "stem")
