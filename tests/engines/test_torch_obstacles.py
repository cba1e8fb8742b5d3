"""What keeps layers or gradients from view is named, and not a layer that the score does not depend on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from helpers import close
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ChronocamError

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x)).mean((2, 3)))


class Checkpointed(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.utils.checkpoint.checkpoint(self.b, self.a(x), use_reentrant=True)
        return self.head(h.mean((2, 3)))


class Blocks(Net):
    """Part by part checkpointed, each part of a class of its own that is whole when it runs again."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).relu()

    def __init__(self) -> None:
        super().__init__()
        self.b = self.Block()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.utils.checkpoint.checkpoint(self.b, self.a(x), use_reentrant=False)
        return self.head(h.mean((2, 3)))


class Inference(Net):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Frozen(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.b(self.a(x))
        return self.head(h.mean((2, 3)))


class Detached(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x)).detach().mean((2, 3)))


class Overwritten(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(x)).sigmoid()
        h *= 2
        return self.head(h.mean((2, 3)))


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, dtype=torch.qint8)


def exported(batch: int) -> nn.Module:
    return torch.export.export(Net(), (X[:batch],)).module()


def scripted() -> Any:
    return nn.Sequential(torch.jit.trace(Net().eval(), X), nn.Identity())


@torch.inference_mode()
def made_in_inference() -> Any:
    return Net()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("build", "layer", "samples", "reason"),
    [
        (Checkpointed, None, 2, "use_reentrant=False"),
        (Checkpointed, "a", 2, "use_reentrant=False"),
        (Checkpointed, "b.0", 2, "use_reentrant=False"),
        (Inference, None, 2, "inference_mode"),
        (Inference, "b", 2, "inference_mode"),
        (Detached, None, 2, "reaches a layer with a grid.*EigenCAM"),
        (scripted, None, 2, "TorchScript module, whose layers are hidden"),
        (made_in_inference, None, 2, "made under torch.inference_mode"),
        (made_in_inference, "a", 2, "made under torch.inference_mode"),
        (Overwritten, None, 2, "overwrites in place"),
        (Overwritten, "a", 2, "overwrites in place"),
        (quantised, None, 2, "Linear is quantised.*floating-point model"),
        (quantised, "b", 2, "Linear is quantised.*floating-point model"),
        (lambda: exported(1), None, 1, "torch.export.unflatten"),
        (lambda: exported(2), None, 2, "dynamic_shapes"),
        (lambda: torch.export.unflatten(torch.export.export(Net(), (X,))), None, 2, "dynamic_shapes"),
    ],
)
def test_what_keeps_gradients_from_a_layer_is_named(
    build: Callable[[], Any], layer: str | None, samples: int, reason: str
) -> None:
    with pytest.raises(ChronocamError, match=reason) as raised:
        cc.GradCAM(build(), layer).explain(X[:samples], 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("build", "layer"), [(Frozen, "b"), (Blocks, "b")])
def test_what_only_seems_to_keep_gradients_from_a_layer_is_no_obstacle(
    build: Callable[[], Any], layer: str
) -> None:
    net = build().eval()
    free = Net().eval()
    free.load_state_dict({name.replace("b.conv", "b.0"): x for name, x in net.state_dict().items()})
    found = cc.GradCAM(net, signed=True).explain(X, 1)
    assert found.layer == layer
    close(found.maps, cc.GradCAM(free, "b", signed=True).explain(X, 1).maps, 1e-5)


def test_without_such_an_obstacle_a_layer_off_the_path_is_told_so() -> None:
    with pytest.raises(ChronocamError, match="does not depend on layer `b`; choose one on the path"):
        cc.GradCAM(Net(), "b").explain(X, lambda outputs: outputs[:, 0].detach())


def test_an_exported_program_is_told_how_it_becomes_a_module() -> None:
    with pytest.raises(ChronocamError, match=r"give torch\.export\.unflatten"):
        cc.GradCAM(torch.export.export(Net(), (X,)))
