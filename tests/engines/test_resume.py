"""A model run from a layer on gives what the whole model gives, whatever comes before and beside it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chronocam.engines import Result, Resumed, engine_for
from chronocam.engines.torch.engine import TorchEngine
from chronocam.errors import InputError, LayerError, ModelError

CHANGES = 5


def two(result: Result) -> Tensor:
    return result.logits()[:, :2]


class Plain(nn.Module):
    """A plain network, with in-place operations on what modules returned, in modules and beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.conv2, self.act2 = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.conv1(x).mul_(2))
        x = self.act2(self.conv2(x).add_(1))
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.short = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x).relu_())
        out += self.short(x)
        return out.relu_() + x


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 6, 3), nn.Sequential(Block(), Block())
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Branched(nn.Module):
    """Two branches and the raw input meet after the layer; one module works in both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.shared = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        right = self.shared(self.right(x))
        left = self.shared(self.left(x).relu())
        return self.fc(torch.cat([left, right, x], 1).mean((2, 3)))


class Transformer(nn.Module):
    """Tokens of patches with a class token, and positions from a table: 17 rows for any number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, 8, 4, 4), nn.Embedding(17, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1)
        tokens = tokens + self.places(torch.arange(17))
        return self.fc(self.encoder(tokens)[:, 0])


class Eye(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu()).relu().mean((2, 3))


class Frames(nn.Module):
    """A CNN and an LSTM; the CNN sees the frames folded into the batch, or one after the other."""

    def __init__(self, stepped: bool) -> None:
        super().__init__()
        self.stepped = stepped
        self.eye, self.lstm, self.fc = Eye(), nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.stepped:
            features = torch.stack([self.eye(x[:, t]) for t in range(x.shape[1])], 1)
        else:
            features = self.eye(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        states, (last, _) = self.lstm(features)
        return {"states": states, "logits": self.fc(last[-1] + states[:, -1])}


class Remembers(nn.Module):
    """What follows the layer reads the last state of an LSTM, `(layer, batch, state)`."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.attend, self.fc = nn.LSTM(3, 6, 2, batch_first=True), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        states, (last, _) = self.lstm(x)
        return self.fc(self.attend(states).tanh().mean(1) + last.mean(0))


class Fed(nn.Module):
    """The second look of a module depends on its first: nothing after that may be taken as stored."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.look, self.fc = nn.Conv2d(4, 3, 1), nn.Conv2d(3, 1, 1), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.zeros_like(x[:, :1])
        for _ in range(3):
            seen = self.look(self.mix(torch.cat([x, seen], 1)).tanh())
        return self.fc(seen.mean((2, 3)))


class Softmaxed(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Masked(nn.Module):
    """Several inputs by name, one of them a mask of integers; the layer returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.gru, self.fc = nn.Linear(3, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        states, _ = self.gru(self.words(features) * mask[..., None])
        return self.fc((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def pictures(samples: int) -> Tensor:
    return torch.randn(samples, 3, 16, 16)


def clips(samples: int) -> Tensor:
    return torch.randn(samples, 4, 3, 9, 9)


def sequences(samples: int) -> dict[str, Tensor]:
    mask = torch.ones(samples, 6, dtype=torch.int64)
    mask[:, 4:] = 0
    return {"features": torch.randn(samples, 6, 3), "mask": mask}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any], str]] = {
    "plain, before an operation in place": (Plain, pictures, "conv1"),
    "plain, the last": (Plain, pictures, "act2"),
    "within a residual block": (Residual, pictures, "blocks.0.conv2"),
    "a residual block": (Residual, pictures, "blocks.0"),
    "the first layer": (Residual, pictures, "stem"),
    "branches": (Branched, pictures, "left"),
    "the second call": (Branched, pictures, "shared#1"),
    "the first call": (Branched, pictures, "shared#0"),
    "transformer": (Transformer, pictures, "encoder.layers.0"),
    "patches": (Transformer, pictures, "patches"),
    "folded frames": (lambda: Frames(stepped=False), clips, "eye.conv1"),
    "frame by frame": (lambda: Frames(stepped=True), clips, "eye.conv2"),
    "one of the frames": (lambda: Frames(stepped=True), clips, "eye.conv1#2"),
    "fed back": (Fed, pictures, "look"),
    "softmax": (Softmaxed, pictures, "conv2"),
    "mask": (Masked, sequences, "gru"),
    "after a remembered state": (Remembers, lambda samples: torch.randn(samples, 5, 3), "attend"),
    "the output of an RNN": (lambda: Frames(stepped=False), clips, "lstm"),
}
networks = pytest.mark.parametrize(("make", "inputs", "layer"), NETWORKS.values(), ids=list(NETWORKS))


def by_hand(net: nn.Module, x: Any, layer: str, changed: Sequence[Tensor], change: int) -> Tensor:
    """The scores of the whole model where the layer returns one of the changes."""
    path, _, number = layer.partition("#")
    calls = iter(range(99))

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        call = next(calls)
        if number and call != int(number):
            return None
        tensor = output[0] if isinstance(output, tuple) else output
        rows = len(tensor)
        new = changed[0 if number else call][change * rows : (change + 1) * rows].clone()
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = net.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        raw = net(**x) if isinstance(x, dict) else net(x)
    handle.remove()
    logits = raw["logits"] if isinstance(raw, dict) else raw
    return logits.log() if isinstance(net, Softmaxed) else logits


def changes(resumed: Resumed) -> list[Tensor]:
    return [torch.cat([x * (k / 3) + k for k in range(CHANGES)]) for x in resumed.activations]


@networks
@pytest.mark.parametrize("samples", [1, 2])
def test_the_rest_of_a_model_gives_what_the_whole_gives(
    make: Any, inputs: Any, layer: str, samples: int
) -> None:
    torch.manual_seed(0)
    net, x = make().eval(), inputs(samples)
    resumed = engine_for(net).resume(x, layer)
    changed = changes(resumed)
    before = [c.clone() for c in changed]
    scores = resumed(changed if len(changed) > 1 else changed[0], two)
    assert scores.shape == (CHANGES * samples, 2)
    assert not scores.requires_grad
    assert len({round(float(s), 5) for s in scores[::samples, 0]}) > 1  # the changes matter
    for change in range(CHANGES):
        expected = by_hand(net, x, layer, before, change)
        rows = slice(change * samples, (change + 1) * samples)
        if isinstance(net, Softmaxed):  # logits up to a constant
            expected = expected - expected[:, :1] + scores[rows, :1]
        torch.testing.assert_close(scores[rows], expected[:, :2], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(c, b) for c, b in zip(changed, before, strict=True))  # the caller's stay theirs
    torch.testing.assert_close(resumed(changed, two), scores)  # and the stored outputs stay as they are


def calls_of(net: nn.Module, run: Callable[[], Any]) -> dict[str, int]:
    """How many calls of each module run its own `forward`."""
    counts: dict[str, int] = {}
    originals = {type(m): type(m).forward for m in net.modules()}
    for path, module in net.named_modules():
        module.path = path

    def counted(kind: type) -> Any:
        def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            counts[module.path] = counts.get(module.path, 0) + 1
            return originals[kind](module, *args, **kwargs)

        return forward

    for kind in originals:
        kind.forward = counted(kind)
    try:
        run()
    finally:
        for kind, forward in originals.items():
            kind.forward = forward
    return counts


def test_what_comes_before_the_layer_runs_once() -> None:
    net = Residual().eval()
    resumed = engine_for(net).resume(pictures(2), "blocks.1.conv1")
    counts = calls_of(net, lambda: resumed(torch.cat([resumed.activations[0]] * 3), two))
    assert counts == {"": 1, "blocks": 1, "blocks.1": 1, "blocks.1.conv2": 1, "blocks.1.short": 1, "fc": 1}


def state(net: nn.Module) -> list[Any]:
    return [
        [(p, len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for p, m in net.named_modules()],
        ["forward" in m.__dict__ for m in net.modules()],
        [(name, p.grad, p.requires_grad, p.sum().item()) for name, p in net.named_parameters()],
        torch.is_grad_enabled(),
    ]


def test_the_model_is_left_as_found_also_after_an_exception() -> None:
    net = Residual().eval()
    before = state(net)
    resumed = engine_for(net).resume(pictures(2), "blocks.0")
    assert state(net) == before
    resumed(resumed.activations[0], two)
    assert state(net) == before

    def fails(result: Result) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        resumed(resumed.activations[0], fails)
    assert state(net) == before
    with pytest.raises(InputError):
        resumed(resumed.activations[0][:, :2], two)  # too few channels
    assert state(net) == before


def test_a_users_hooks_see_every_call_and_change_it_once() -> None:
    net = Plain().eval()
    net.conv1.register_forward_hook(lambda module, args, output: output + 1)
    x = pictures(2)
    resumed = engine_for(net).resume(x, "conv2")
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(resumed(resumed.activations, two), expected[:, :2])


def test_a_call_in_the_place_of_the_models_and_what_a_score_reads() -> None:
    net = Residual().eval()
    x = pictures(2)
    resumed = engine_for(net).resume(
        x, "blocks.0", call=lambda model, inputs: model(inputs) * 3, reads=["stem", "blocks.1.conv2"]
    )

    def score(result: Result) -> Tensor:
        stem, conv = result.outputs["stem"][0], result.outputs["blocks.1.conv2"][0]
        assert len(stem) == len(conv) == len(result.raw) == 4
        return torch.stack([result.raw[:, 0], stem.mean((1, 2, 3)), conv.mean((1, 2, 3))], 1)

    a = resumed.activations[0]
    scores = resumed(torch.cat([a, a * 2]), score)
    with torch.no_grad():
        assert torch.allclose(scores[:2, 0], net(x)[:, 0] * 3, atol=1e-5)
        assert torch.allclose(scores[:, 1], net.stem(x).mean((1, 2, 3)).repeat(2), atol=1e-5)
        assert torch.allclose(
            scores[2:, 2], net.blocks[1].conv2(net.blocks[1].conv1(a * 2).relu()).mean((1, 2, 3))
        )


class Random(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.rand(())


@pytest.mark.parametrize(
    ("make", "layer", "error", "words"),
    [
        (Random, "conv1", LayerError, "from layer `conv1` on"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).train(),
            "0",
            ModelError,
            "eval",
        ),
        (Plain, "input", LayerError, "input"),
    ],
)
def test_what_cannot_be_resumed_is_refused_in_one_line(make: Any, layer: str, error: Any, words: str) -> None:
    net = make()
    with pytest.raises(error, match=words) as raised:
        engine_for(net).resume(pictures(2), layer)
    assert "\n" not in str(raised.value)


def test_activations_that_do_not_fit_are_refused() -> None:
    resumed = engine_for(Plain().eval()).resume(pictures(2), "conv1")
    for wrong in (resumed.activations[0][:1], [resumed.activations[0]] * 2, resumed.activations[0][:0]):
        with pytest.raises(InputError, match="layer `conv1`"):
            resumed(wrong, two)


def test_scores_alone_build_no_graph() -> None:
    net = Residual()
    seen = []
    x = pictures(2).requires_grad_()

    def score(result: Result) -> Tensor:
        seen.append((result.raw.requires_grad, torch.is_grad_enabled(), result.outputs["stem"][0]))
        return two(result)

    before = state(net)
    scores = engine_for(net).scores(x, score, reads=["stem"])
    assert state(net) == before
    assert seen[0][:2] == (False, False)
    with torch.no_grad():
        torch.testing.assert_close(scores, net(x)[:, :2])
        torch.testing.assert_close(seen[0][2], net.stem(x))
    doubled = engine_for(net).scores(x, lambda result: result.raw[:, :1], call=lambda model, x: 2 * model(x))
    torch.testing.assert_close(doubled, 2 * scores[:, :1])


def resumed_at_conv1(engine: TorchEngine, x: Tensor, score: Any, reads: Any) -> Any:
    return engine.resume(x, "conv1", reads=reads)


@pytest.mark.parametrize("run", [TorchEngine.scores, resumed_at_conv1])
def test_an_unknown_module_that_is_read_is_refused(run: Any) -> None:
    with pytest.raises(LayerError, match="no layer `fcc`; did you mean `fc`"):
        run(TorchEngine(Plain().eval()), pictures(1), two, reads=["fcc"])
