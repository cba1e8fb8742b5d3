"""Any function from arrays to scores as a model, whatever it does with its arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

import chronocam as cc
from chronocam.errors import ChronocamError, InputError, LayerError, ModelError

X = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))


def bent() -> nn.Module:
    torch.manual_seed(2)
    conv = nn.Conv2d(3, 6, 3, 2, 1)
    return nn.Sequential(conv, nn.Tanh(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(24, 4)).eval()


@pytest.mark.parametrize(
    "told",
    [
        lambda y: y.tolist(),
        lambda y: pd.DataFrame(y, columns=[*"abcd"]),
        sparse.csr_matrix,
    ],
)
def test_scores_come_in_whatever_holds_them(told: Any) -> None:
    def scored(x: Any) -> np.ndarray:
        return x.mean((2, 3)) @ np.arange(12.0).reshape(3, 4)

    options: dict[str, Any] = {"budget": 60, "until": None}
    plain = cc.RISE(cc.blackbox(scored), **options).explain(X.numpy(), 1)
    found = cc.RISE(cc.blackbox(lambda x: told(scored(x))), **options).explain(X.numpy(), 1)
    np.testing.assert_allclose(found.maps, plain.maps, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (lambda x: [*np.zeros((len(x), 4))], "a list of 2 rows, one per sample; return one array of them"),
        (lambda x: 3.0, "the function returns the number 3.0; return scores"),
        (lambda x: None, "the function returns None; return"),
        (lambda x: ["cat"] * len(x), r"the function returns str96 \(2,\), such as .*cat.*; return scores"),
        (lambda x: np.full((len(x), 4), 1j), r"complex128 \(2, 4\), such as"),
        (lambda x: np.zeros((len(x), 0)), "no class 1; the model has no output"),
    ],
)
def test_what_is_no_score_is_refused_in_words(told: Any, text: str) -> None:
    with pytest.raises(ChronocamError, match=text):
        cc.RISE(cc.blackbox(told), budget=60).explain(X.numpy(), 1)


def test_a_model_that_takes_one_sample_at_a_time_is_given_one() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = bent()

        def forward(self, x: Tensor) -> Tensor:
            if len(x) != 1:
                raise ValueError("one sample at a time")
            return self.net(x)

    options: dict[str, Any] = {"budget": 60, "until": None}
    found = cc.RISE(Single().eval(), **options).explain(X[:1], 1)
    np.testing.assert_allclose(found.maps, cc.RISE(bent(), **options).explain(X[:1], 1).maps, atol=1e-6)


def test_a_detector_is_explained_after_suppression() -> None:
    """Boxes are suppressed, and the score is that of the best one of a class that is left, or 0."""
    nms = pytest.importorskip("torchvision", reason="torchvision is not installed").ops.nms
    scene = np.zeros((1, 1, 24, 24), np.float32)
    scene[0, 0, 2:8, 3:9], scene[0, 0, 14:20, 13:19] = 0.8, 0.6

    def detected(batch: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(batch), 2), np.float32)
        for row, image in enumerate(torch.from_numpy(batch[:, 0])):
            means = image.unfold(0, 6, 1).unfold(1, 6, 1).mean((2, 3))
            y, x = (means > 0.3).nonzero(as_tuple=True)
            kept = nms(torch.stack([x, y, x + 6, y + 6], 1).float(), means[y, x], 0.3)
            for at in kept:
                kind = int(y[at] > 11)
                scores[row, kind] = max(scores[row, kind], float(means[y[at], x[at]]))
        return scores

    for kind, (rows, columns) in enumerate([(np.s_[2:8], np.s_[3:9]), (np.s_[14:20], np.s_[13:19])]):
        box = cc.blackbox(detected, labels=["above", "below"])
        (found,) = cc.Occlusion(box, window=4, stride=2, baseline="zero").explain(scene, kind).maps[0]
        assert np.unravel_index(found.argmax(), found.shape)[0] in range(rows.start, rows.stop)
        assert found[rows, columns].sum() > 0.5 * found.sum()
        assert found[10:].sum() < 1e-6 if kind == 0 else found[:10].sum() < 1e-6


def test_rows_of_lists_and_whole_numbers_are_scores_and_numbers_of_classes_are_not() -> None:
    listed = cc.blackbox(lambda x: [[float(v.mean()), float(v.max())] for v in x])
    arrays = cc.blackbox(lambda x: np.stack([x.mean((1, 2, 3)), x.max((1, 2, 3))], 1))
    pair = [cc.Occlusion(box).explain(X.numpy(), 0).maps for box in (listed, arrays)]
    np.testing.assert_allclose(*pair, atol=1e-6)
    votes = cc.blackbox(lambda x: (x > 0.5).sum((2, 3)))
    assert cc.Occlusion(votes, baseline="zero").explain(X.numpy(), 1).maps.max() > 1
    with pytest.raises(ModelError, match="such as numbers of classes; return scores"):
        cc.Occlusion(cc.blackbox(lambda x: x.mean((2, 3)).argmax(1))).explain(X.numpy(), 1)


def test_a_function_is_explained_like_the_model_in_it() -> None:
    net = bent()
    box = cc.blackbox(lambda x: net(torch.from_numpy(x)).detach().numpy(), labels=["a", "b", "c", "d"])
    methods: list[Any] = [cc.RISE, cc.Occlusion, cc.LIME, cc.KernelSHAP]
    for method in methods:
        options = {} if method is cc.Occlusion else {"budget": 120, "until": None}
        mine = method(net, **options).explain(X, 1)
        theirs = method(box, **options).explain(X.numpy(), "b")
        assert theirs.targets[0][0].name == "b"
        np.testing.assert_allclose(theirs.maps, mine.maps, atol=1e-6)


def test_a_served_network_is_a_black_box(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    weights = np.random.default_rng(0).normal(size=(3 * 14 * 14, 4)).astype(np.float32)
    make = onnx.helper
    nodes = [make.make_node("Flatten", ["x"], ["flat"]), make.make_node("MatMul", ["flat", "w"], ["y"])]
    x, y = (
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["batch", 3, 14, 14]), ("y", ["batch", 4]))
    )
    graph = make.make_graph(nodes, "linear", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "linear.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path))
    box = cc.blackbox(lambda x: session.run(None, {"x": x})[0])
    found = cc.RISE(box, regions="cells", baseline="zero", signed=True).explain(X.numpy(), 1)
    parts = (weights[:, 1].reshape(3, 14, 14) * X.numpy()).reshape(2, 3, 7, 2, 7, 2).sum((1, 3, 5))
    np.testing.assert_allclose(found.maps[:, 0, ::2, ::2], parts, atol=1e-4)


def test_a_black_box_has_no_layers() -> None:
    box: Any = cc.blackbox(lambda x: x.mean((2, 3)))
    methods: list[Any] = [cc.GradCAM, cc.AblationCAM, cc.Saliency, cc.IntegratedGradients]
    for method in methods:
        with pytest.raises(LayerError, match="choose a method that only looks at scores"):
            method(box).explain(X.numpy(), 1)
    with pytest.raises(ModelError, match="got a int"):
        cc.blackbox(3)  # type: ignore[arg-type]


def test_what_a_function_cannot_take_is_one_line() -> None:
    def only_grey(x: np.ndarray) -> np.ndarray:
        raise ValueError("expected 1 channel")

    with pytest.raises(InputError, match="expected 1 channel"):
        cc.Occlusion(cc.blackbox(only_grey)).explain(X.numpy(), 1)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_what_a_function_does_to_its_arrays_is_its_own(batch_size: int) -> None:
    """It scales its input in place, and fills the same output each time."""
    buffer = np.zeros((64, 3), np.float32)

    def served(x: np.ndarray) -> np.ndarray:
        x *= 2
        out = buffer[: len(x)]
        out[:] = x.sum((2, 3))
        return out

    x = X.numpy().copy()
    options: dict[str, Any] = {"window": 7, "stride": 7, "baseline": "zero", "signed": True}
    found = cc.Occlusion(cc.blackbox(served), batch_size=batch_size, **options).explain(x, 1)
    parts = 2 * X[:, 1].reshape(2, 2, 7, 2, 7).sum((2, 4))
    np.testing.assert_allclose(found.maps[:, 0, ::7, ::7], parts, rtol=1e-4)
    np.testing.assert_array_equal(x, X.numpy())
