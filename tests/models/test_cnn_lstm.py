"""CNNLSTM: what it computes, by hand, over every kind of backbone."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import noise, one_line
from torch import Tensor, nn
from torchvision import models

from chronocam.errors import InputError, ModelError
from chronocam.models import CNNLSTM

CLIPS = noise(2, 5, 3, 8, 8)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())


def seeded(**options: Any) -> Any:
    torch.manual_seed(0)
    net = CNNLSTM(small(), 6, 3, **options).double().eval()
    net.backbone[1].running_mean += 0.2
    return net


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def states_by_hand(net: Any, clips: Tensor = CLIPS) -> Tensor:
    """The LSTM's outputs, from its equations, one clip and one frame at a time."""
    w, u = net.lstm.weight_ih_l0, net.lstm.weight_hh_l0
    bias = net.lstm.bias_ih_l0 + net.lstm.bias_hh_l0
    states = []
    for clip in clips:
        h = c = torch.zeros(u.shape[1], dtype=clips.dtype)
        for frame in clip:
            feature = net.backbone(frame[None])[0].mean((1, 2))
            i, f, g, o = (w @ feature + u @ h + bias).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
    return torch.stack(states).unflatten(0, clips.shape[:2])


# What it computes


def test_the_logits_are_of_the_last_state() -> None:
    net = seeded()
    states = states_by_hand(net)
    close(net(CLIPS), states[:, -1] @ net.head.weight.T + net.head.bias)


def test_the_states_are_those_of_an_lstm() -> None:
    net = seeded(per_step=True)
    lstm = nn.LSTM(4, 6, batch_first=True).double()
    lstm.load_state_dict(net.lstm.state_dict())
    features = net.backbone(CLIPS.reshape(10, 3, 8, 8)).mean((2, 3)).reshape(2, 5, 4)
    close(net.features(CLIPS), features)
    close(net(CLIPS), net.head(lstm(features)[0]))


def test_logits_after_every_frame() -> None:
    net = seeded(per_step=True)
    found = net(CLIPS)
    assert found.shape == (2, 5, 3)
    close(found, states_by_hand(net) @ net.head.weight.T + net.head.bias)
    for t in range(1, 6):  # a step knows nothing of what comes after it
        close(net(CLIPS[:, :t])[:, -1], found[:, t - 1])


def test_attention_by_hand() -> None:
    net = seeded(attention=True)
    states = states_by_hand(net)
    first, _, last = net.attention
    found = net(CLIPS)
    assert set(found) == {"logits", "attention"}
    for b in range(2):
        scores = [
            float((last.weight @ torch.tanh(first.weight @ h + first.bias)).detach()) for h in states[b]
        ]
        weights = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(found["attention"][b].detach(), weights, rtol=1e-12)
        for c in range(3):
            w, bias = net.head.weight[c], net.head.bias[c]
            y = bias + sum(a * (w @ h) for a, h in zip(weights, states[b], strict=True))
            assert float(found["logits"][b, c].detach()) == pytest.approx(float(y.detach()), abs=1e-12)
    close(found["attention"].sum(1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"per_step": True}])
def test_a_batch_equals_one_by_one(options: dict[str, bool]) -> None:
    net = seeded(**options)

    def logits(x: Tensor) -> Tensor:
        found = net(x)
        return found["logits"] if isinstance(found, dict) else found

    close(logits(CLIPS), torch.cat([logits(CLIPS[:1]), logits(CLIPS[1:])]))


def test_one_frame_gets_all_the_attention() -> None:
    found = seeded(attention=True)(CLIPS[:, :1])
    close(found["attention"], torch.ones(2, 1, dtype=torch.float64))


# Backbones

NAMES = {"resnet18": 512, "mobilenet_v3_small": 576, "squeezenet1_1": 512, "shufflenet_v2_x0_5": 1024}
LARGE = {"regnet_y_400mf": 440, "efficientnet_b0": 1280, "convnext_tiny": 768, "swin_t": 768, "vit_b_32": 768}


@pytest.mark.parametrize(("name", "features"), NAMES.items())
def test_torchvision_backbones_by_name_and_object(name: str, features: int) -> None:
    torch.manual_seed(0)
    named = CNNLSTM(name, 4, 3).eval()
    given = CNNLSTM(models.get_model(name, weights=None), 4, 3).eval()
    for net in (named, given):
        assert net.lstm.input_size == features
        assert net.features(torch.zeros(1, 2, 3, 64, 64)).shape == (1, 2, features)
    given.load_state_dict(named.state_dict())
    x = torch.randn(1, 2, 3, 64, 64)
    torch.testing.assert_close(given(x), named(x))
    assert named(x).shape == (1, 3)
    assert not any(1000 in p.shape for p in named.backbone.parameters())  # ImageNet's head is gone


@pytest.mark.slow
@pytest.mark.parametrize(("name", "features"), LARGE.items())
def test_larger_torchvision_backbones(name: str, features: int) -> None:
    net = CNNLSTM(name, 4, 3).eval()
    assert net.lstm.input_size == features
    side = 224 if name == "vit_b_32" else 64
    assert net(torch.zeros(1, 2, 3, side, side)).shape == (1, 3)


def test_the_features_of_a_resnet_are_its_pooled_last_layer() -> None:
    torch.manual_seed(0)
    whole = models.resnet18(weights=None).eval()
    head = whole.fc
    x = torch.randn(1, 2, 3, 64, 64)
    expected = whole(x[0])
    net = CNNLSTM(whole, 4, 3).eval()
    torch.testing.assert_close(head(net.features(x)[0]), expected)


class Vectors(nn.Module):
    """A backbone without parameters that returns vectors, of pictures with one channel more."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3)
        self.fc = nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


def test_backbones_of_ones_own() -> None:
    net = CNNLSTM(Vectors(), 4, 3)
    assert net.lstm.input_size == 6
    assert net(torch.randn(2, 5, 3, 8, 8)).shape == (2, 3)
    custom = Custom()
    net = CNNLSTM(custom, 4, 3)
    assert isinstance(custom.fc, nn.Linear)  # only torchvision's heads are left out
    assert net.lstm.input_size == 7
    assert net(torch.randn(2, 5, 1, 8, 8)).shape == (2, 3)
    assert CNNLSTM(Custom().double(), 4, 3).lstm.input_size == 7


class Wrong(nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, x: Tensor) -> Any:
        return self.result(x)


@pytest.mark.parametrize(
    "result", [lambda x: x.flatten(1)[:, :, None], lambda x: {"features": x}, lambda x: (x, x)]
)
def test_a_backbone_that_returns_no_features_is_refused(result: Any) -> None:
    with pytest.raises(ModelError, match=r"the backbone returns .*expected") as error:
        CNNLSTM(Wrong(result), 4, 3)
    one_line(error)


def test_a_backbone_that_takes_no_pictures_is_refused_in_one_line() -> None:
    for backbone in (nn.Linear(7, 2), nn.Conv3d(3, 4, 3)):
        with pytest.raises(ModelError) as error:
            CNNLSTM(backbone, 4, 3)
        one_line(error, "backbone")


def test_training_flags_and_statistics_of_the_backbone_are_left_as_found() -> None:
    backbone = small()
    backbone[0].eval()
    backbone[1].train()
    flags = [m.training for m in backbone.modules()]
    statistics = {k: v.clone() for k, v in backbone.state_dict().items()}
    CNNLSTM(backbone, 4, 3)
    assert [m.training for m in backbone.modules()] == flags
    assert flags == [True, False, True, True]
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, statistics[name])
    refuses = nn.Sequential(small(), Wrong(lambda x: {}))
    with pytest.raises(ModelError):
        CNNLSTM(refuses, 4, 3)
    assert all(m.training for m in refuses.modules())


# What is refused


@pytest.mark.parametrize(("name", "meant"), [("resnet81", "resnet18"), ("mobilnet_v2", "mobilenet_v2")])
def test_an_unknown_backbone_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(ModelError, match=f"no torchvision backbone `{name}`") as error:
        CNNLSTM(name, 4, 3)
    one_line(error, f"`{meant}`")


def test_a_name_that_is_like_no_other_is_refused() -> None:
    with pytest.raises(ModelError, match="list_models") as error:
        CNNLSTM("qqqqqqqqqqq", 4, 3)
    one_line(error)


def test_attention_and_per_step_exclude_each_other() -> None:
    with pytest.raises(ModelError, match=r"attention.*per_step") as error:
        CNNLSTM(small(), 4, 3, attention=True, per_step=True)
    one_line(error)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 8, 8), (2, 1, 5, 3, 8, 8)])
def test_what_is_no_clip_is_refused(shape: tuple[int, ...]) -> None:
    # The package's annotations are enforced in the tests; users get the message.
    forward = getattr(CNNLSTM.forward, "__wrapped__", CNNLSTM.forward)
    with pytest.raises(InputError, match=r"expected \(batch, time, channel, height, width\)") as error:
        forward(seeded(), torch.zeros(shape, dtype=torch.float64))
    one_line(error, str(shape))


# Training


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"per_step": True}])
def test_a_step_of_gradient_descent_lowers_the_loss(options: dict[str, bool]) -> None:
    net, truth = seeded(**options), torch.tensor([2, 0])
    net.train()

    def loss() -> Tensor:
        found = net(CLIPS)
        logits = found["logits"] if isinstance(found, dict) else found
        logits = logits.mean(1) if logits.ndim == 3 else logits
        return nn.functional.cross_entropy(logits, truth)

    before = loss()
    before.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    torch.optim.SGD(net.parameters(), lr=0.05).step()
    assert loss() < before


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"per_step": True}])
def test_from_features_is_what_follows_the_cnn(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    net = CNNLSTM(nn.Conv2d(3, 4, 3), 5, 3, **options).eval()
    clips = torch.randn(2, 4, 3, 8, 8)
    whole, rest = net(clips), net.from_features(net.features(clips))
    for a, b in zip(
        *(([x["logits"], x["attention"]] if options.get("attention") else [x]) for x in (whole, rest)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
