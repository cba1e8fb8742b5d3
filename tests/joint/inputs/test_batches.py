"""Data sets are taken batch by batch, and inputs that do not fit are refused."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from explained import Net, X, Y, same, seeded
from helpers import one_line
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import chronocam as cc
from chronocam.errors import InputError, TargetError
from chronocam.explanation import concatenate

# Data sets
NUMPY = X.numpy()
DATASETS: dict[str, Callable[[], Any]] = {
    "DataLoader": lambda: DataLoader(TensorDataset(X), batch_size=3),
    "DataLoader of tensors": lambda: DataLoader(X, batch_size=3),  # type: ignore[arg-type]
    "generator": lambda: (X[i : i + 3] for i in (0, 3, 6)),
    "list of batches": lambda: [X[:3], X[3:6], X[6:]],
    "list of arrays": lambda: [NUMPY[:3], NUMPY[3:6], NUMPY[6:]],
    "one-tuples": lambda: ((X[i : i + 3],) for i in (0, 3, 6)),
    "large batches": lambda: [X[:5], X[5:]],
}


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("targets", [None, 1, "per sample", "weights", "several"])
def test_data_sets_equal_one_array(kind: str, targets: Any) -> None:
    forms = {
        "per sample": Y.numpy(),
        "weights": np.eye(5)[Y],
        "several": [cc.targets.Class(1), cc.targets.Predicted()],
    }
    given = forms.get(targets, targets) if isinstance(targets, str) else targets
    net = seeded()
    method = cc.GradCAM(net, batch_size=3)
    expected = method.explain(X, given)
    same(method.explain(DATASETS[kind](), given), expected)
    parts = list(method.explain_batches(DATASETS[kind](), given))
    assert [len(part) for part in parts] == ([3, 2, 2] if kind == "large batches" else [3, 3, 1])
    same(concatenate(parts), expected)
    same(cc.explain(net, DATASETS[kind](), given, batch_size=3)["gradcam"], expected)


PAIRS: dict[str, Callable[[], Any]] = {
    "DataLoader": lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
    "generator": lambda: ((X[i : i + 3], Y[i : i + 3].tolist()) for i in (0, 3, 6)),
    "one-hot": lambda: [(X[:5], np.eye(5)[Y[:5]]), (X[5:], np.eye(5)[Y[5:]])],
}


@pytest.mark.parametrize("kind", PAIRS)
def test_data_sets_that_carry_their_targets(kind: str) -> None:
    net = seeded()
    expected = cc.GradCAM(net).explain(X, Y)
    for batch_size in (2, 32):
        same(cc.GradCAM(net, batch_size=batch_size).explain(PAIRS[kind](), None), expected)
    other = cc.GradCAM(net).explain(X, (Y + 1) % 5)
    same(cc.GradCAM(net).explain(PAIRS[kind](), (Y + 1) % 5), other)  # targets given go before those carried
    same(cc.GradCAM(net).explain(PAIRS[kind](), 2), cc.GradCAM(net).explain(X, 2))


def test_several_inputs_in_a_data_set() -> None:
    class Two(Net):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x) * scale

    net, scale = seeded(Two), torch.linspace(1, 2, 7)[:, None]
    expected = cc.GradCAM(net).explain((X, scale), Y)
    pairs = [((X[:4], scale[:4]), Y[:4]), ((X[4:], scale[4:]), Y[4:])]
    same(cc.GradCAM(net, batch_size=2).explain(pairs), expected)
    named = [{"x": X[:4], "scale": scale[:4]}, {"x": X[4:], "scale": scale[4:]}]
    same(cc.GradCAM(net).explain(named, Y), expected)


@pytest.mark.parametrize("wrong", [Y[:6], Y[:2].tolist(), np.eye(5)[Y[:6]], np.zeros((2, 3), int)])
def test_too_few_targets_for_a_data_set(wrong: Any) -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded()).explain(DATASETS["generator"](), wrong)
    one_line(error, "rows")


@pytest.mark.parametrize("wrong", [torch.zeros(8, dtype=torch.long), np.zeros((9, 5)), [0] * 8])
def test_too_many_targets_for_a_data_set(wrong: Any) -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded()).explain(DATASETS["generator"](), wrong)
    one_line(error, "7 samples", f"{len(wrong)}")


def test_wrong_targets_in_a_pair() -> None:
    with pytest.raises(TargetError) as error:
        cc.GradCAM(seeded()).explain([(X[:3], Y[:2])])
    one_line(error, "length 2", "expected 3")


def test_a_data_set_is_consumed_one_batch_at_a_time_and_let_go() -> None:
    drawn: list[weakref.ref[Tensor]] = []

    def source() -> Iterator[Tensor]:
        for _ in range(6):
            batch = torch.randn(2, 3, 16, 16)
            drawn.append(weakref.ref(batch))
            yield batch
            del batch

    results = cc.GradCAM(seeded(), "conv2").explain_batches(source())
    assert not drawn
    for count in range(1, 7):
        explanation = next(results)
        assert len(explanation) == 2
        assert len(drawn) == count
        gc.collect()
        assert sum(ref() is not None for ref in drawn) <= 1
    assert next(results, None) is None


def test_batches_of_different_grids_are_explained_batch_by_batch() -> None:
    dataset = [X[:2], X[2:4, :, :, :12], X[4:6, :, :8]]
    method = cc.GradCAM(seeded(), "conv2")
    parts = list(method.explain_batches(dataset))
    assert [part.maps.shape for part in parts] == [(2, 1, 4, 4), (2, 1, 4, 3), (2, 1, 2, 4)]
    assert [part.input_size for part in parts] == [(16, 16), (16, 12), (8, 16)]
    for part, batch in zip(parts, dataset, strict=True):
        same(part, method.explain(batch))
    with pytest.raises(InputError) as error:
        method.explain(dataset)
    one_line(error, "(16, 16)", "(16, 12)", "explain_batches")


def test_a_list_of_pictures_of_several_sizes_is_one_call() -> None:
    pictures = [X[0], X[1], X[2, :, :, :12]]
    method = cc.GradCAM(seeded(), "conv2")
    explanation = method.explain(pictures, [0, 1, 2])
    assert explanation.sizes == ((16, 16), (16, 16), (16, 12))
    same_maps = method.explain(X[:2], [0, 1]).maps
    np.testing.assert_allclose(explanation.maps[:2], same_maps, atol=1e-6)
    last = method.explain(X[2:3, :, :, :12], 2)
    np.testing.assert_allclose(explanation.maps[2:], last.resampled(last.maps, (4, 4)), atol=1e-6)
    assert method.explain(pictures[:2], [0, 1]).sizes is None


def test_a_list_of_pictures_as_they_are_read_is_prepared_one_by_one() -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((16, 16), (16, 12), (16, 12))]
    recipe = cc.media.Preprocess(None, None, (0.5,) * 3, (0.5,) * 3)
    method = cc.GradCAM(seeded(), "conv2", preprocess=recipe)
    explanation = method.explain(pixels, 1)
    assert explanation.sizes == ((16, 16), (16, 12), (16, 12))
    for i, one in enumerate(pixels):
        alone = method.explain(torch.from_numpy(np.asarray(recipe(one)))[None], 1)
        expected = alone.resampled(alone.maps, (4, 4))
        np.testing.assert_allclose(explanation.maps[[i]], expected, atol=1e-6)


# What is refused


def test_labels_that_come_with_a_batch_are_of_its_samples() -> None:
    names = ["ant", "bee", "cat", "dog", "eel"]
    net, labels = seeded(), [names[i] for i in Y]
    expected = cc.GradCAM(net, labels=names).explain(X, Y)
    for size in (2, 5):
        texts = [labels[i : i + size] for i in range(0, 7, size)]
        pairs = list(zip(X.split(size), texts, strict=True))
        for batches in (pairs, [{"image": x, "label": tuple(text)} for x, text in pairs]):
            same(cc.GradCAM(net, labels=names).explain(batches), expected)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (X[0], ["(3, 16, 16)", "batch", "inputs[None]"]),
        (X[0].numpy(), ["(3, 16, 16)", "inputs[None]"]),
        (X[0, 0, 0], ["(16,)", "(batch, …)"]),
        (torch.tensor(3.0), ["()", "(batch, …)"]),
        (X[:0], ["(0, 3, 16, 16)", "at least one sample"]),
        (X[:, :, :0], ["(7, 3, 0, 16)", "at least one sample"]),
        ([], ["no batch"]),
        ((), ["tuple holds no array"]),
        ({}, ["dict holds no array"]),
        ([()], ["holds no array"]),
        ("cat.jpg", ["a str"]),
        (3, ["an int"]),
        (None, ["a NoneType"]),
    ],
)
def test_inputs_that_are_refused(inputs: Any, words: list[str]) -> None:
    for explain in (cc.GradCAM(seeded(), "conv2").explain, lambda given: cc.explain(seeded(), given)):
        with pytest.raises(InputError) as error:
            explain(inputs)
        one_line(error, *words)


def test_unbatched_signals_and_clips_are_refused() -> None:
    for conv, shape in ((nn.Conv1d, (2, 30)), (nn.Conv3d, (2, 4, 8, 8))):
        net = seeded(lambda conv=conv: nn.Sequential(conv(2, 3, 3), nn.Flatten(), nn.LazyLinear(4)))
        net(torch.zeros(1, *shape))
        with pytest.raises(InputError) as error:
            cc.GradCAM(net, "0").explain(torch.zeros(shape), 1)
        one_line(error, str(shape), "inputs[None]")
        assert len(cc.GradCAM(net, "0").explain(torch.zeros(2, *shape), 1)) == 2


def test_unequal_inputs_are_not_cut_but_given_whole() -> None:
    class Shared(Net):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            assert table.shape == (3, 5)
            return super().forward(x) + table.sum(0)

    net = seeded(Shared)
    for batch_size in (2, None):
        found = cc.GradCAM(net, "conv2", batch_size=batch_size).explain((X, torch.ones(3, 5)), 1)
        np.testing.assert_allclose(found.scores[:, 0], (Net.forward(net, X)[:, 1] + 3).detach(), rtol=1e-5)


# What people give, and what is wrong with it


MISFITS: dict[str, tuple[Any, list[str]]] = {
    "bytes": ((255 * X).byte(), ["inputs are uint8", "divide by 255 and normalise"]),
    "integers": ((255 * X).long(), ["inputs are int64", "floating-point"]),
    "channels last": (X.permute(0, 2, 3, 1), ["channels-last (…, ", ", 3)", "permute(0, 3, 1, 2)"]),
    "bytes, channels last": (X.permute(0, 2, 3, 1).byte().numpy(), ["permute(0, 3, 1, 2)"]),
    "one picture, channels last": (X[0].permute(1, 2, 0), ["channels-last", "permute(2, 0, 1)[None]"]),
    "one picture": (X[0], ["no batch axis", "inputs[None]"]),
    "grey": (X[:, :1], ["inputs have 1 channels", "inputs.repeat(1, 3, 1, 1)"]),
    "alpha": (torch.cat([X, X[:, :1]], 1), ["inputs have 4 channels", "inputs[:, :3]"]),
    "grey without an axis": (X[:, 0], ["3 axes", "(batch, 3, height, width)"]),
}


@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("layer", [None, "conv2"])
def test_inputs_that_do_not_fit_are_told(case: str, layer: str | None) -> None:
    inputs, words = MISFITS[case]
    with pytest.raises(InputError) as error:
        cc.GradCAM(seeded(), layer).explain(inputs, 1)
    one_line(error, *words)


def test_colour_for_a_grey_network() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(InputError) as error:
        cc.GradCAM(net).explain(X, 1)
    one_line(error, "3 channels", "inputs.mean(1, keepdim=True)")


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8", np.longdouble, np.float16])
def test_any_floating_point_array(dtype: Any) -> None:
    given = NUMPY.astype(np.float16).astype(dtype)
    expected = cc.GradCAM(seeded()).explain(NUMPY.astype(np.float16).astype(np.float32), 1)
    same(cc.GradCAM(seeded()).explain(given, 1), expected)


def test_arrays_that_may_not_be_written(recwarn: pytest.WarningsRecorder) -> None:
    given = NUMPY.copy()
    given.flags.writeable = False
    same(cc.GradCAM(seeded()).explain(given, 1), cc.GradCAM(seeded()).explain(X, 1))
    assert not recwarn.list


class OneDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = seeded()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.net(batch["rgb"]) * batch["scale"][:, None]


def test_a_model_that_takes_one_dict() -> None:
    found = cc.GradCAM(OneDict(), batch_size=3).explain({"rgb": X, "scale": torch.ones(len(X))}, Y)
    expected = cc.GradCAM(seeded(), batch_size=3).explain(X, Y)
    np.testing.assert_allclose(found.maps, expected.maps, atol=1e-7)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_names_that_the_model_does_not_take() -> None:
    with pytest.raises(InputError) as error:
        cc.GradCAM(seeded()).explain({"image": X, "mask": X}, 1)
    one_line(error, "by the names `image`, `mask`", "expected `x`")


FILES = [f"{i}.png" for i in range(len(X))]
ITEMS: dict[str, Any] = {
    "dict": {"image": X, "label": Y},
    "dict with names": {"image": X, "label": Y, "path": FILES},
    "Labels": {"pixel_values": X, "Labels": Y},
    "triple": (X, Y, FILES),
    "list": [X, Y, FILES, None],
}


@pytest.mark.parametrize("kind", ITEMS)
def test_items_with_their_targets(kind: str) -> None:
    same(cc.GradCAM(seeded()).explain(iter([ITEMS[kind]])), cc.GradCAM(seeded()).explain(X, Y))
    same(cc.GradCAM(seeded()).explain(iter([ITEMS[kind]]), 2), cc.GradCAM(seeded()).explain(X, 2))


UNCLEAR: dict[str, Any] = {
    "two pictures": (X, X),
    "three arrays": (X, Y, torch.arange(len(X))),
    "two labels": {"image": X, "label": Y, "target": Y},
    "no image": {"path": FILES, "label": Y},
}


@pytest.mark.parametrize("targets", [None, 1])
@pytest.mark.parametrize("kind", UNCLEAR)
def test_items_that_may_mean_two_things(kind: str, targets: int | None) -> None:
    with pytest.raises(InputError) as error:
        cc.GradCAM(seeded()).explain(iter([UNCLEAR[kind]]), targets)
    one_line(error, "an item of the data set", "yield (inputs, targets)")


class Frame:
    """A table that has a shape, and no type of its numbers."""

    shape = (3, 4)


def test_a_table_is_no_array() -> None:
    with pytest.raises(InputError, match=r"inputs hold a Frame; expected an array, as .*to_numpy\(\) gives"):
        cc.GradCAM(seeded(Net)).explain(Frame(), 0)


class Ragged:
    """As of TensorFlow: rows of several lengths, which have a shape and a type, and no axes."""

    shape, dtype = (2, None), "float32"

    def to_tensor(self) -> None:
        """Fill the rows up."""


class Variable:
    """As of TensorFlow: it has a shape and a type, and no axes."""

    shape, dtype = (2, 3, 8, 8), "float32"


@pytest.mark.parametrize(("kind", "way"), [(Ragged, "to_tensor"), (Variable, "numpy")])
def test_what_has_no_axes_is_no_array(kind: type, way: str) -> None:
    with pytest.raises(InputError, match=rf"inputs are a {kind.__name__}; give inputs.{way}\(\)"):
        cc.GradCAM(seeded(Net)).explain(kind(), 0)


class Foreign:
    """An array of another framework, such as JAX."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values

    def __getitem__(self, key: Any) -> "Foreign":
        return Foreign(self.values[key])


def test_arrays_of_other_frameworks_are_taken() -> None:
    x, net = np.random.default_rng(0).random((2, 3, 16, 16), np.float32), seeded(Net)
    np.testing.assert_array_equal(
        cc.GradCAM(net).explain(Foreign(x), 0).maps, cc.GradCAM(net).explain(x, 0).maps
    )


@pytest.mark.parametrize("to", ["to_sparse", "to_sparse_coo"])
def test_sparse_inputs_are_refused(to: str) -> None:
    with pytest.raises(InputError, match=r"inputs are sparse; give inputs.to_dense\(\)"):
        cc.GradCAM(seeded(Net)).explain(getattr(torch.rand(1, 3, 16, 16), to)(), 0)


@pytest.mark.parametrize("made", [lambda x: x.numpy(), lambda x: x.detach().numpy(), lambda x: np.zeros(1)])
def test_scores_in_numpy_carry_no_gradient(made: Callable[[Tensor], Any]) -> None:
    net, x = seeded(Net), torch.rand(1, 3, 16, 16)
    with pytest.raises(TargetError, match="the operator makes NumPy of the outputs"):
        cc.GradCAM(net, operator=lambda model, inputs, targets: made(model(inputs)[:, 0])).explain(x)
    with pytest.raises(TargetError, match="the callable target makes NumPy of the outputs"):
        cc.GradCAM(net).explain(x, lambda outputs: made(outputs[:, 0]))


def test_another_error_of_an_operator_is_its_own() -> None:
    def fails(model: Any, inputs: Any, targets: Any) -> Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        cc.GradCAM(seeded(Net), operator=fails).explain(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize("rank", [2, 3])
def test_grey_pictures_and_clips_to_which_the_model_adds_the_channel(rank: int) -> None:
    torch.manual_seed(0)
    conv: type[nn.Module] = nn.Conv2d if rank == 2 else nn.Conv3d
    seen = nn.Sequential(conv(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(2))

    class Grey(nn.Module):
        def __init__(self, axis: bool) -> None:
            super().__init__()
            self.seen, self.head, self.axis = seen, nn.Linear(8, 4), axis

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.seen(x[:, None] if self.axis else x).mean(2))

    bare, given = Grey(True), Grey(False)
    given.head = bare.head
    x = torch.rand(2, 12, 16, 20)[:, : 12 if rank == 3 else 1].squeeze(1)
    explanation = cc.GradCAM(bare).explain(x, 3)
    assert explanation.input_size == tuple(x.shape[1:])
    same(explanation, cc.GradCAM(given).explain(x[:, None], 3))


class OfFour(nn.Module):
    """Holds states for four samples, as a network that was built for such batches does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn, self.fc = (
            nn.Conv1d(3, 8, 5, 1, 2),
            nn.GRU(8, 8, batch_first=True),
            nn.Linear(8, 4),
        )
        self.state = nn.Parameter(torch.zeros(1, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.conv(x).transpose(1, 2), self.state)[0][:, -1])


def test_a_model_for_batches_of_one_size_is_told_what_to_do() -> None:
    net, x = seeded(OfFour), torch.rand(4, 3, 40, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="runs on the 4 samples of the call together, not on one"):
        cc.GradCAM(net).explain(x, 1)
    assert cc.GradCAM(net, "conv").explain(x, 1).maps.shape == (4, 1, 40)  # as the message says
    with pytest.raises(InputError, match="the model fails on inputs"):
        cc.GradCAM(net).explain(x[:3], 1)
