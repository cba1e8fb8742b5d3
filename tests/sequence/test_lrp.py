"""Relevance through recurrent networks, against two oracles that share no code with the package.

The surrogate: gradient × input, by plain autograd, of a network written out with detached gates (ε = 0). The
textbook: relevance pushed back unit by unit with loops and the formulas as printed (any ε).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from chronocam.errors import InputError, ModelError
from chronocam.models import CNNLSTM
from chronocam.sequence import LRP
from chronocam.targets import Class, Contrast, EveryStep, MajorityVote, Norm, Step

T, IN, H, CLASSES = 5, 4, 3, 3
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class Stepwise(nn.Module):
    """A recurrent network with logits at every step."""

    def __init__(self, kind: str, batch_first: bool = True, **options: Any) -> None:
        super().__init__()
        self.rnn = KINDS[kind](IN, H, batch_first=batch_first, **options)
        self.head = nn.Linear(H * (2 if options.get("bidirectional") else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


def seeded(make: Callable[[], nn.Module], seed: int = 0, scale: float = 2.0) -> Any:
    """Return a network in float64 whose weights are large enough for its gates and tanh to bend."""
    torch.manual_seed(seed)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def features(batch: int = 2, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, T, IN))


OPTIONS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "two layers": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "two bidirectional layers": {"num_layers": 2, "bidirectional": True},
    "without bias": {"bias": False},
}
EACH = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
BOTH = pytest.mark.parametrize("kind", KINDS)


# --- the surrogate
# -------------------------------------------------------------------------------------------------


def straight(z: Tensor) -> Tensor:
    """tanh as a factor that is held constant."""
    return z * (torch.tanh(z) / z).detach()


def surrogate_layer(kind: str, x: Tensor, w: Tensor, u: Tensor, b: Tensor, b2: Tensor) -> Tensor:
    """One direction over x (time, feature), from zero states."""
    h, c, outputs = x.new_zeros(H), x.new_zeros(H), []
    for at in x:
        if kind == "LSTM":
            i, f, g, o = (w @ at + b + u @ h + b2).reshape(4, H)
            i, f, o = (torch.sigmoid(gate).detach() for gate in (i, f, o))
            c = f * c + i * straight(g)
            h = o * straight(c)
        elif kind == "RNN":
            h = straight(w @ at + b + u @ h + b2)
        else:
            (r, z, n), (r2, z2, n2) = (w @ at + b).reshape(3, H), (u @ h + b2).reshape(3, H)
            r, z = torch.sigmoid(r + r2).detach(), torch.sigmoid(z + z2).detach()
            h = (1 - z) * straight(n + r * n2) + z * h
        outputs.append(h)
    return torch.stack(outputs)


def surrogate(model: Any, kind: str, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Logits (time, class) of one sequence, of the given leaves."""
    rnn = model.rnn
    for layer in range(rnn.num_layers):
        directions = []
        for suffix in ["", "_reverse"][: 2 if rnn.bidirectional else 1]:
            w, u = (weights[f"rnn.weight_{part}_l{layer}{suffix}"] for part in ("ih", "hh"))
            none = w.new_zeros(len(w))
            b, b2 = (weights.get(f"rnn.bias_{part}_l{layer}{suffix}", none) for part in ("ih", "hh"))
            found = surrogate_layer(kind, x.flip(0) if suffix else x, w, u, b, b2)
            directions.append(found.flip(0) if suffix else found)
        x = torch.cat(directions, dim=1)
    return x @ weights["head.weight"].T + weights["head.bias"]


def surrogate_relevance(model: Any, kind: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient × input (step, time, feature) of every step's first logit, and that of all biases (step,)."""
    leaf = torch.from_numpy(x).requires_grad_()
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    biases = [value for name, value in weights.items() if "bias" in name]
    logits = surrogate(model, kind, leaf, weights)
    assert torch.allclose(logits, model(torch.from_numpy(x)[None])[0], atol=1e-14)
    relevance, shares = [], []
    for score in logits[:, 0]:
        grads = torch.autograd.grad(score, [leaf, *biases], retain_graph=True, allow_unused=True)
        relevance.append((grads[0] * leaf).detach().numpy())
        shares.append(
            sum((g * b).sum().item() for g, b in zip(grads[1:], biases, strict=True) if g is not None)
        )
    return np.stack(relevance), np.array(shares)


@BOTH
@EACH
def test_without_epsilon_it_is_gradient_times_input_of_the_surrogate(
    kind: str, options: dict[str, Any]
) -> None:
    model, x = seeded(lambda: Stepwise(kind, **options)), features()
    found = LRP(model, epsilon=0).explain(x, EveryStep(0))
    assert found.relevance.shape == (2, T, T, IN)
    for sample in range(2):
        relevance, biases = surrogate_relevance(model, kind, x[sample])
        assert np.abs(relevance).max() > 0.01
        assert np.allclose(found.relevance[sample], relevance, rtol=0, atol=1e-12)
        assert np.allclose(found.ledger["bias"][sample], biases, rtol=0, atol=1e-12)
    assert not found.ledger["stabiliser"].any()
    assert not found.ledger["initial_state"].any()


# --- the textbook
# --------------------------------------------------------------------------------------------------


def sign(z: float) -> float:
    return -1.0 if z < 0 else 1.0


class Textbook:
    """One layer, one direction, unit by unit; `bias` and `stabiliser` collect what the features lose."""

    def __init__(self, model: Any, epsilon: float) -> None:
        self.epsilon, self.bias, self.stabiliser, self.initial = epsilon, 0.0, 0.0, 0.0
        self.p = {name: p.detach().numpy() for name, p in model.named_parameters()}

    def sum_rule(self, parts: Sequence[float], constant: float, relevance: float) -> list[float]:
        """R_i = part_i / (z + ε s(z)) · R for z = Σ parts + constant."""
        z = sum(parts) + constant
        below = z + self.epsilon * sign(z)
        if below == 0:
            assert relevance == 0
            return [0.0] * len(parts)
        self.bias += constant / below * relevance
        self.stabiliser += self.epsilon * sign(z) / below * relevance
        return [part / below * relevance for part in parts]

    def head(self, h: np.ndarray, which: int) -> np.ndarray:
        w, b = self.p["head.weight"][which], self.p["head.bias"][which]
        return np.array(self.sum_rule(list(w * h), b, float(w @ h + b)))

    def lstm(self, x: np.ndarray, step: int, which: int, start: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        w, u = self.p["rnn.weight_ih_l0"], self.p["rnn.weight_hh_l0"]
        b = self.p["rnn.bias_ih_l0"] + self.p["rnn.bias_hh_l0"]
        hs, cs, gates = [start[0]], [start[1]], []
        for at in x:
            i, f, g, o = (w @ at + u @ hs[-1] + b).reshape(4, H)
            i, f, o, g = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o)), np.tanh(g)
            cs.append(f * cs[-1] + i * g)
            hs.append(o * np.tanh(cs[-1]))
            gates.append((i, f, g))
        found, r_h, r_c = np.zeros_like(x), self.head(hs[step + 1], which), np.zeros(H)
        for t in range(step, -1, -1):
            (i, f, g), r_c = gates[t], r_c + r_h
            r_h, r_before = np.zeros(H), np.zeros(H)
            for j in range(H):
                r_before[j], r_g = self.sum_rule([f[j] * cs[t][j], i[j] * g[j]], 0.0, r_c[j])
                row = 2 * H + j
                shares = self.sum_rule([*(w[row] * x[t]), *(u[row] * hs[t])], b[row], r_g)
                found[t] += shares[:IN]
                r_h += shares[IN:]
            r_c = r_before
        self.initial = r_h.sum() + r_c.sum()
        return found

    def gru(self, x: np.ndarray, step: int, which: int, start: tuple[np.ndarray, ...]) -> np.ndarray:
        w, u = self.p["rnn.weight_ih_l0"], self.p["rnn.weight_hh_l0"]
        b, b2 = self.p["rnn.bias_ih_l0"], self.p["rnn.bias_hh_l0"]
        hs, gates = [start[0]], []
        for at in x:
            lower, upper = (w @ at + b).reshape(3, H), (u @ hs[-1] + b2).reshape(3, H)
            r, z = (1 / (1 + np.exp(-(lower[k] + upper[k]))) for k in (0, 1))
            n = np.tanh(lower[2] + r * upper[2])
            hs.append((1 - z) * n + z * hs[-1])
            gates.append((r, z, n))
        found, r_h = np.zeros_like(x), self.head(hs[step + 1], which)
        for t in range(step, -1, -1):
            (r, z, n), r_before = gates[t], np.zeros(H)
            for j in range(H):
                r_n, own = self.sum_rule([(1 - z[j]) * n[j], z[j] * hs[t][j]], 0.0, r_h[j])
                row = 2 * H + j
                parts = [*(w[row] * x[t]), *(r[j] * u[row] * hs[t])]
                shares = self.sum_rule(parts, b[row] + r[j] * b2[row], r_n)
                found[t] += shares[:IN]
                r_before += shares[IN:]
                r_before[j] += own
            r_h = r_before
        self.initial = r_h.sum()
        return found

    def rnn(self, x: np.ndarray, step: int, which: int, start: tuple[np.ndarray, ...]) -> np.ndarray:
        w, u = self.p["rnn.weight_ih_l0"], self.p["rnn.weight_hh_l0"]
        b, hs = self.p["rnn.bias_ih_l0"] + self.p["rnn.bias_hh_l0"], [start[0]]
        for at in x:
            hs.append(np.tanh(w @ at + u @ hs[-1] + b))
        found, r_h = np.zeros_like(x), self.head(hs[step + 1], which)
        for t in range(step, -1, -1):
            r_before = np.zeros(H)
            for j in range(H):
                shares = self.sum_rule([*(w[j] * x[t]), *(u[j] * hs[t])], b[j], r_h[j])
                found[t] += shares[:IN]
                r_before += shares[IN:]
            r_h = r_before
        self.initial = r_h.sum()
        return found


class FromState(nn.Module):
    """A network whose initial state is not zero."""

    def __init__(self, inner: Stepwise) -> None:
        super().__init__()
        self.rnn, self.head = inner.rnn, inner.head
        states = torch.linspace(-1, 1, H), torch.linspace(0.7, -0.4, H)
        self.states = nn.ParameterList(states if isinstance(inner.rnn, nn.LSTM) else states[:1])

    def forward(self, x: Tensor) -> Tensor:
        hx = tuple(s.expand(1, len(x), H).contiguous() for s in self.states)
        return self.head(self.rnn(x, hx if len(hx) > 1 else hx[0])[0])


@BOTH
@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 0])
@pytest.mark.parametrize("given_state", [False, True], ids=["zero states", "given states"])
def test_it_is_the_textbook_rule(kind: str, epsilon: float, given_state: bool) -> None:
    model: Any = seeded(lambda: Stepwise(kind))
    model = seeded(lambda: FromState(model), scale=1.0) if given_state else model
    start = tuple(s.detach().numpy() for s in model.states) if given_state else (np.zeros(H), np.zeros(H))
    x = features()
    found = LRP(model, epsilon=epsilon).explain(x, [Step(t, c) for t in range(T) for c in range(CLASSES)])
    for sample in range(2):
        for column in range(T * CLASSES):
            book = Textbook(model, epsilon)
            walk = getattr(book, kind.lower())
            expected = walk(x[sample], *divmod(column, CLASSES), start)
            assert np.allclose(found.relevance[sample, column], expected, rtol=0, atol=1e-12)
            for term in ("bias", "stabiliser"):
                assert found.ledger[term][sample, column] == pytest.approx(getattr(book, term), abs=1e-12)
            assert found.ledger["initial_state"][sample, column] == pytest.approx(book.initial, abs=1e-12)
    assert np.abs(found.ledger["initial_state"]).max() > 0.01 or not given_state


# --- the ledger
# ----------------------------------------------------------------------------------------------------


def closes(found: Any, to: float = 1e-12) -> bool:
    assert list(found.ledger) == ["input", "initial_state", "bias", "stabiliser"]
    assert np.allclose(found.ledger["input"], found.relevance.sum(axis=(2, 3)), rtol=0, atol=to)
    return np.allclose(sum(found.ledger.values()), found.scores, rtol=0, atol=to)


@BOTH
@EACH
@pytest.mark.parametrize("epsilon", [0, 1e-3, 0.5])
def test_the_ledger_closes(kind: str, options: dict[str, Any], epsilon: float) -> None:
    model, x = seeded(lambda: Stepwise(kind, **options)), features()
    found = LRP(model, epsilon=epsilon).explain(x, [EveryStep(), MajorityVote(), Step(-1, Contrast(0, 2))])
    logits = model(torch.from_numpy(x)).detach().numpy()
    assert np.allclose(found.scores[:, :T], logits.max(axis=2), rtol=0, atol=1e-13)
    assert np.allclose(found.scores[:, -1], logits[:, -1, 0] - logits[:, -1, 2], rtol=0, atol=1e-13)
    assert closes(found)
    assert np.abs(found.ledger["stabiliser"]).max() > (1e-4 if epsilon else -1)
    assert bool(epsilon) == bool(found.ledger["stabiliser"].any())


@BOTH
@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_after_a_step_has_relevance_for_its_output(kind: str, layers: int) -> None:
    model = seeded(lambda: Stepwise(kind, num_layers=layers))
    found = LRP(model).explain(features(), EveryStep(1)).relevance
    for step in range(T):
        assert not found[:, step, step + 1 :].any()
        assert found[:, step, : step + 1].all()
    both = seeded(lambda: Stepwise(kind, num_layers=layers, bidirectional=True))
    assert LRP(both).explain(features(), EveryStep(1)).relevance.all()


class Pooled(nn.Module):
    """A recurrent network and a head that makes one vector of its states."""

    def __init__(self, pool: Callable[[Any, Tensor], Tensor], *layers: nn.Module, width: int = H) -> None:
        super().__init__()
        self.rnn, self.pool, self.layers = nn.LSTM(IN, H, batch_first=True), pool, nn.Sequential(*layers)
        self.score, self.head = nn.Linear(H, 1), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, (h, _) = self.rnn(x)
        return self.head(self.layers(self.pool(self, states) if self.pool is not None else h[-1]))


def attention(net: Any, states: Tensor) -> Tensor:
    weights = torch.softmax(net.score(states).tanh(), dim=1)
    return (weights * states).sum(dim=1)


def attention_by_product(net: Any, states: Tensor) -> Tensor:
    return torch.bmm(F.softmax(net.score(states), 1).transpose(1, 2), states)[:, 0]


def gated(net: Any, states: Tensor) -> Tensor:
    return torch.sigmoid(net.score(states)[:, -1]) * states[:, -1]


def added(net: Any, states: Tensor) -> Tensor:
    last = states[:, -1] + net.score.bias
    last += 0.5
    joined = torch.cat([last[:, :1], torch.ones_like(last[:, 1:])], dim=1)
    return torch.add(1 - (joined - 2), other=net.score.weight[0], alpha=2) - states[:, 0]


HEADS: dict[str, Callable[[], nn.Module]] = {
    "last state": lambda: Pooled(None),  # type: ignore[arg-type]
    "last step": lambda: Pooled(lambda net, states: states[:, -1]),
    "mean": lambda: Pooled(lambda net, states: states.mean(dim=1)),
    "maximum": lambda: Pooled(lambda net, states: states.amax(dim=1)),
    "flat": lambda: Pooled(lambda net, states: states.flatten(1), width=H * T),
    "attention": lambda: Pooled(attention),
    "attention by matrix product": lambda: Pooled(attention_by_product),
    "gated": lambda: Pooled(gated),
    "constants": lambda: Pooled(added),
    "activations": lambda: Pooled(
        lambda net, states: states[:, -1],
        *[
            nn.Linear(H, 8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(8, 8),
            nn.GELU(),
            nn.Linear(8, H),
        ],
        *[nn.Tanh(), nn.LeakyReLU(0.2), nn.SiLU(), nn.ELU(), nn.Identity()],
    ),
    "norms": lambda: Pooled(
        lambda net, states: states[:, -1],
        nn.LayerNorm(H),
        nn.BatchNorm1d(H),
        nn.Linear(H, H),
        nn.BatchNorm1d(H),
    ),
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("epsilon", [0, 1e-3])
def test_the_ledger_closes_through_heads(make: Callable[[], nn.Module], epsilon: float) -> None:
    model = seeded(make)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    found = LRP(model, epsilon=epsilon).explain(features(), [Class(0), Class(1)])
    assert closes(found)
    assert np.allclose(found.scores, model(torch.from_numpy(features()))[:, :2].detach(), rtol=0, atol=1e-13)
    assert found.relevance.any(axis=(2, 3)).all()


def test_attention_gives_each_step_its_weighted_share() -> None:
    """With ε = 0, biases aside, step t's state gets a_t (w_c · h_t): pooled without the LSTM."""
    torch.manual_seed(0)

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.head = nn.Linear(IN, 1), nn.Linear(IN, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(attention(self, x))

    model, x = Attending().double(), features()
    found = LRP(model, epsilon=0).explain(x, 2)
    weights = torch.softmax(model.score(torch.from_numpy(x)).tanh(), dim=1).detach().numpy()
    assert np.allclose(found.relevance[:, 0], weights * x * model.head.weight[2].detach().numpy(), atol=1e-14)
    assert np.allclose(found.ledger["bias"], model.head.bias[2].item(), atol=1e-14)


def test_a_convolution_shares_by_the_linear_rule() -> None:
    """By hand: one kernel of two taps, z_t = 2 x_t − x_{t+1} + 0.5, and the mean over time."""

    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.transpose(1, 2)).mean(dim=2)

    model = Convolved().double()
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor([[[2.0, -1.0]]]))
        model.conv.bias.fill_(0.5)
    x = np.array([[[1.0], [3.0], [-2.0]]])  # z = −0.5, 8.5, and their mean 4
    found = LRP(model, epsilon=0.1).explain(x, 1)
    first, second = -0.25 / -0.6, 4.25 / 8.6  # R_t / (z_t + ε s): half of z each
    assert np.allclose(found.relevance[0, 0, :, 0], [2 * first, -3 * first + 6 * second, 2 * second])
    assert found.ledger["bias"][0, 0] == pytest.approx(0.5 * (first + second))
    assert found.ledger["stabiliser"][0, 0] == pytest.approx(-0.1 * first + 0.1 * second)


def test_cells_called_step_by_step_are_the_layer() -> None:
    class Unrolled(nn.Module):
        def __init__(self, model: Any, kind: str) -> None:
            super().__init__()
            self.cell = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}[kind](IN, H).double()
            self.head, self.lstm = model.head, kind == "LSTM"
            self.cell.load_state_dict({k.removesuffix("_l0"): v for k, v in model.rnn.state_dict().items()})

        def forward(self, x: Tensor) -> Tensor:
            state, outputs = None, []
            for at in x.unbind(1):
                state = self.cell(at, state)
                outputs.append(state[0] if self.lstm else state)
            return self.head(torch.stack(outputs, dim=1))

    for kind in KINDS:
        model = seeded(lambda kind=kind: Stepwise(kind))
        one, other = (LRP(net).explain(features(), EveryStep(0)) for net in (model, Unrolled(model, kind)))
        assert np.allclose(one.relevance, other.relevance, rtol=0, atol=1e-13)
        assert all(np.allclose(one.ledger[k], other.ledger[k], rtol=0, atol=1e-13) for k in one.ledger)


class Packing(nn.Module):
    """Packs what it is given by its lengths, and pads what comes out."""

    def __init__(self, kind: str, bidirectional: bool) -> None:
        super().__init__()
        self.rnn = KINDS[kind](IN, H, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(H * (1 + bidirectional), CLASSES)

    def forward(self, x: Any, lengths: Tensor | None = None) -> Tensor:
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(x)[0], batch_first=True)
        return self.head(states).sum(dim=1)


@BOTH
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_are_those_of_their_length(kind: str, bidirectional: bool) -> None:
    model, x, lengths = seeded(lambda: Packing(kind, bidirectional)), features(3), [3, 5, 2]
    by_length = LRP(model).explain((x, np.array(lengths)), 1)
    packed = pack_sequence([torch.from_numpy(x[k, :n]) for k, n in enumerate(lengths)], enforce_sorted=False)
    as_packed = LRP(model).explain(packed, 1)
    assert closes(by_length)
    assert np.array_equal(by_length.relevance, as_packed.relevance)
    for k, n in enumerate(lengths):
        alone = LRP(model).explain((x[k : k + 1, :n], torch.tensor([n])), 1)
        assert np.allclose(by_length.relevance[k, 0, :n], alone.relevance[0, 0], rtol=0, atol=1e-14)
        assert not by_length.relevance[k, 0, n:].any()
        assert by_length.relevance[k, 0, :n].all()


def test_time_first_models_are_explained_in_the_same_axes() -> None:
    model = seeded(lambda: Stepwise("LSTM"))
    turned = seeded(lambda: Stepwise("LSTM", batch_first=False))
    turned.load_state_dict(model.state_dict())
    one = LRP(model).explain(features(), EveryStep())
    other = LRP(turned, batch_first=False).explain(features(), EveryStep())
    assert np.allclose(one.relevance, other.relevance, rtol=0, atol=1e-14)


def test_the_parts_of_a_cnn_lstm_take_features() -> None:
    torch.manual_seed(0)
    cnn = nn.Sequential(nn.Conv2d(3, IN, 3), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())

    class OfFeatures(CNNLSTM):
        def from_features(self, features: Tensor) -> Any:
            states, _ = self.lstm(features)
            weights = torch.softmax(self.attention(states)[..., 0], dim=1)
            return {"logits": self.head((weights[..., None] * states).sum(dim=1)), "attention": weights}

    model = OfFeatures(cnn, hidden=H, classes=CLASSES, attention=True).double().eval()
    clips = torch.randn(2, T, 3, 8, 8, dtype=torch.float64)
    found = LRP(model).explain(model.features(clips).detach(), 1)
    assert closes(found)
    assert np.allclose(found.scores[:, 0], model(clips)["logits"][:, 1].detach(), rtol=0, atol=1e-13)


# --- refusals, and the model as it was found
# -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pooled(lambda net, s: s[:, -1] ** 2), ["does not add up", "`pow`"]),
        (lambda: Pooled(lambda net, s: s[:, -1] * s[:, 0]), ["`mul`"]),
        (lambda: Pooled(lambda net, s: s[:, -1].cos()), ["`cos`"]),
        (lambda: Pooled(lambda net, s: torch.sigmoid(s[:, -1])), ["gates", "sigmoid"]),
        (lambda: Pooled(lambda net, s: s[:, -1].detach()), ["do not depend on the features"]),
        (lambda: Pooled(lambda net, s: s[:, -1] + torch.rand(1)), ["call model.eval()"]),
    ],
)
def test_what_has_no_rule_is_named(make: Callable[[], nn.Module], words: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        LRP(seeded(make)).explain(features(), 0)
    assert all(word in str(error.value) for word in words), error.value


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.head = nn.MultiheadAttention(IN, 1, batch_first=True), nn.Linear(IN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attend(x, x, x)[0][:, -1])


def test_layers_without_a_rule_are_named() -> None:
    with pytest.raises(ModelError, match="no rule for `multi_head_attention_forward`"):
        LRP(seeded(Attends)).explain(features(), 1)


def test_a_plain_network_of_relu_is_gradient_times_input() -> None:
    model = seeded(lambda: Stepwise("RNN", nonlinearity="relu"))
    x = torch.from_numpy(features()).requires_grad_()
    relevance = torch.autograd.grad(model(x)[:, -1, 0].sum(), x)[0] * x
    found = LRP(model, epsilon=0).explain(features(), Step(-1, 0))
    assert closes(found)
    assert np.allclose(found.relevance[:, 0], relevance.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_a_projection_shares_by_the_linear_rule(bias: bool) -> None:
    units, epsilon = 6, 0.1

    def projected() -> nn.Module:
        model = Stepwise("LSTM")
        model.rnn = nn.LSTM(IN, units, batch_first=True, proj_size=H, bias=bias)
        return model

    model, x = seeded(projected), features(1)[:, :1]
    found = LRP(model, epsilon=epsilon).explain(x, Step(0, 0))
    # One step from zero states, by hand: h = P (o⊙tanh(c)), c = i⊙g, g = tanh(W x + b).
    p = {name: value.detach().numpy() for name, value in model.rnn.named_parameters()}
    constant = p["bias_ih_l0"] + p["bias_hh_l0"] if bias else np.zeros(4 * units)
    z = (p["weight_ih_l0"] @ x[0, 0] + constant).reshape(4, units)
    c = 1 / (1 + np.exp(-z[0])) * np.tanh(z[2])
    h = 1 / (1 + np.exp(-z[3])) * np.tanh(c)
    book = Textbook(model, epsilon)
    expected = np.zeros(IN)
    for k, r in enumerate(book.head(p["weight_hr_l0"] @ h, 0)):
        shares = book.sum_rule(list(p["weight_hr_l0"][k] * h), 0.0, r)
        for j, share in enumerate(shares):
            (r_g,) = book.sum_rule([c[j]], 0.0, share)
            row = 2 * units + j
            expected += book.sum_rule(list(p["weight_ih_l0"][row] * x[0, 0]), constant[row], r_g)
    assert np.allclose(found.relevance[0, 0, 0], expected, rtol=0, atol=1e-12)
    assert closes(LRP(model).explain(features(), EveryStep()))


def test_values_must_be_those_of_the_model() -> None:
    model = seeded(lambda: Pooled(lambda net, s: s[:, -1] * (1 + 1e-4 * torch.rand(1, dtype=s.dtype))))
    with pytest.raises(ModelError, match="step by step"):
        LRP(model).explain(features(), 0)


def test_training_mode_and_odd_epsilons_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.eval\(\)"):
        LRP(Stepwise("GRU", num_layers=2, dropout=0.5).train()).explain(features())
    with pytest.raises(ModelError, match=r"BatchNorm.*model\.eval\(\)"):
        LRP(Pooled(lambda net, s: s[:, -1], nn.BatchNorm1d(H)).train()).explain(features())
    with pytest.raises(InputError, match="epsilon is -1"):
        LRP(Stepwise("GRU"), epsilon=-1)
    with pytest.raises(InputError, match="epsilon is nan"):
        LRP(Stepwise("GRU"), epsilon=float("nan"))


def test_a_target_that_is_not_linear_in_the_logits_is_refused() -> None:
    model = seeded(lambda: Pooled(lambda net, s: s[:, -1]))
    with pytest.raises(ModelError, match="the target's own formula"):
        LRP(model).explain(features(), lambda logits: logits[:, 0] ** 2)
    assert closes(LRP(model).explain(features(), Norm()))  # of degree one, so that it shares exactly


def state_of(model: nn.Module) -> Any:
    return [
        [(n, p.clone(), p.requires_grad, p.grad) for n, p in model.named_parameters()],
        [(n, b.clone()) for n, b in model.named_buffers()],
        [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), m.forward) for m in model.modules()],
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.mark.parametrize("works", [True, False])
def test_the_model_is_left_as_found(works: bool) -> None:
    model = seeded(lambda: Pooled(lambda net, s: s[:, -1] if works else s[:, -1] ** 3, nn.BatchNorm1d(H)))
    model.head.weight.requires_grad_(False)
    model.rnn.weight_ih_l0.grad = torch.ones_like(model.rnn.weight_ih_l0)
    before, x = state_of(model), torch.from_numpy(features())
    given = x.clone().requires_grad_()
    with torch.no_grad():
        if works:
            LRP(model).explain(given, 0)
        else:
            with pytest.raises(ModelError):
                LRP(model).explain(given, 0)
        assert not torch.is_grad_enabled()
    assert same(before, state_of(model))
    assert torch.equal(given, x)
    assert given.grad is None


def test_single_precision_agrees_with_double() -> None:
    model, x = seeded(lambda: Stepwise("LSTM", num_layers=2)), features()
    double = LRP(model).explain(x, EveryStep(0))
    single = LRP(model.float()).explain(x, EveryStep(0))
    assert (double.relevance.dtype, single.relevance.dtype) == (np.float64, np.float32)
    assert np.allclose(single.relevance, double.relevance, atol=1e-4)
    assert closes(single, 1e-5)


def test_every_argument_counts() -> None:
    model, x = seeded(lambda: Stepwise("LSTM")), features()
    assert not np.allclose(LRP(model).explain(x).relevance, LRP(model, epsilon=0.1).explain(x).relevance)
    assert np.allclose(LRP(model).explain(x).relevance, LRP(model, epsilon=1e-3).explain(x).relevance)


def test_a_plain_recurrent_layer_is_a_model_of_its_units() -> None:
    layer = seeded(lambda: nn.LSTM(IN, H, batch_first=True))
    found = LRP(layer).explain(features(), Step(2, 1))
    assert closes(found)
    assert np.allclose(found.scores[:, 0], layer(torch.from_numpy(features()))[0][:, 2, 1].detach())
