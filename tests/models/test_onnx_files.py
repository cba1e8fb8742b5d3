"""ONNX: a black box for every method of masks, and layers where a copy in PyTorch gives the same outputs."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.errors import LayerError, ModelError
from chronocam.media import ClipPreprocess, Preprocess

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx2torch")


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        convolutions = (
            nn.Conv2d(3, 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3),
            nn.ReLU(),
        )
        self.features = nn.Sequential(*convolutions)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)).view(x.shape[0], -1))


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 4, 3, stride=2), nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t = x.shape[:2]
        found = self.conv(x.flatten(0, 1)).mean((2, 3)).view(n, t, -1)
        return self.head(self.rnn(found)[0][:, -1])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def exported(model: nn.Module, *shape: int, free: bool = False, name: str = "net.onnx") -> nn.Module:
    axes = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n"}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.rand(shape),),
            name,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=axes,
            dynamo=False,
        )
    return model


@pytest.mark.parametrize("free", [False, True])
def test_a_copy_with_the_same_outputs_has_layers(free: bool) -> None:
    model = exported(CNN(), 1, 3, 32, 32, free=free)
    loaded = cc.models.load("net.onnx")
    x = torch.rand(3, 3, 32, 32)
    maps = cc.GradCAM(loaded.model).explain(x, 1).maps
    np.testing.assert_allclose(maps, cc.GradCAM(model).explain(x, 1).maps, atol=1e-6)
    assert isinstance(loaded.preprocess, Preprocess)
    assert loaded.preprocess.crop == ((224, 224) if free else (32, 32))


def test_a_clip_through_a_cnn_and_an_lstm_is_explained_by_its_scores() -> None:
    model = exported(Steps(), 1, 4, 3, 32, 32)  # as many frames as channels might be
    loaded = cc.models.load("net.onnx")
    assert isinstance(loaded.preprocess, ClipPreprocess)
    assert (loaded.preprocess.frames, loaded.preprocess.axes) == (4, "time channel")
    x = torch.rand(3, 4, 3, 32, 32)
    own = cc.Occlusion(loaded.model, baseline="zero").explain(x.numpy(), 1).maps
    np.testing.assert_allclose(own, cc.Occlusion(model, baseline="zero").explain(x, 1).maps, atol=1e-6)
    with pytest.raises(LayerError, match=r"layers are not at hand, since onnx2torch fails \(.*LSTM"):
        cc.GradCAM(loaded.model).explain(x.numpy(), 1)


def test_a_copy_that_differs_is_refused_with_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx2torch

    exported(CNN(), 1, 3, 32, 32)
    convert = onnx2torch.convert

    def shifted(proto: Any) -> nn.Module:
        model = convert(proto)
        model.head_Gemm.bias.data += 0.01
        return model

    monkeypatch.setattr(onnx2torch, "convert", shifted)
    loaded = cc.models.load("net.onnx")
    with pytest.raises(
        LayerError, match=r"outputs of a copy by onnx2torch are 0\.01 apart, more than 0\.0001"
    ):
        cc.GradCAM(loaded.model).explain(torch.rand(1, 3, 32, 32), 1)


def small_graph(dtype: str = "UINT8", node: str = "cast") -> Any:
    """Casts a picture and averages it: channels last, as converters from TensorFlow write it."""
    make, kind = onnx.helper, getattr(onnx.TensorProto, dtype)
    nodes = [
        make.make_node("Cast", ["x"], ["f"], name=node, to=onnx.TensorProto.FLOAT),
        make.make_node("ReduceMean", ["f"], ["y"], name="mean", axes=[1, 2], keepdims=0),
    ]
    ends = (
        make.make_tensor_value_info("x", kind, [None, 8, 8, 3]),
        make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 3]),
    )
    graph = make.make_graph(nodes, "g", [ends[0]], [ends[1]])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)


def test_whole_numbers_are_pixels() -> None:
    onnx.save(small_graph(), "net.onnx")
    loaded = cc.models.load("net.onnx", labels=["red", "green", "blue"])
    red = Image.new("RGB", (30, 20), (200, 10, 0))
    explanation = cc.Occlusion(loaded, baseline="zero").explain(red, "red")
    assert explanation.scores[0, 0] == 200
    assert not any("assumed" in text for text in explanation.diagnostics)


def test_names_in_a_file_are_no_code() -> None:
    bomb = 'a"), __import__("pathlib").Path("ran").mkdir(), getattr(self, "mean'
    for node in (bomb, "x\nimport os", "class", "9 lives"):
        onnx.save(small_graph("FLOAT", node), "net.onnx")
        loaded = cc.models.load("net.onnx")
        x = np.ones((1, 8, 8, 3), np.float32)
        assert np.isfinite(cc.Occlusion(loaded.model, baseline="zero").explain(x, 0).maps).all()
    assert not Path("ran").exists()


def test_weights_outside_of_the_folder_are_not_read() -> None:
    Path("secret").write_bytes(b"\0" * 64)
    Path("inside").mkdir()
    proto = small_graph("FLOAT")
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [3], [0.0] * 3)
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    proto.graph.initializer.append(tensor)
    proto.graph.node[1].output[0] = "m"
    proto.graph.node.append(onnx.helper.make_node("Add", ["m", "w"], ["y"], name="add"))
    Path("inside/net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="cannot be read"):
        cc.models.load("inside/net.onnx")


def test_what_is_no_onnx_file() -> None:
    Path("net.onnx").write_bytes(b"hello")
    with pytest.raises(ModelError, match=r"cannot be read .*expected an \.onnx file"):
        cc.models.load("net.onnx")


def test_onnx_on_the_command_line() -> None:
    exported(CNN(), 1, 3, 32, 32, name="layers.onnx")
    exported(Steps(), 1, 4, 3, 32, 32)
    Image.effect_noise((40, 40), 90).convert("RGB").save("photo.png")
    result = run("explain", "photo.png", "--model", "layers.onnx", "--method", "layercam", "--json")
    assert result.exit_code == 0, result.stderr
    assert '"layer": "features_features_4_Relu"' in result.stdout
    result = run("explain", "photo.png", "--model", "net.onnx")
    assert "is a picture" in result.stderr


def test_a_black_box_of_pictures_takes_no_video() -> None:
    onnx.save(small_graph(), "net.onnx")
    Path("clip.mp4").write_bytes(b"never read")
    result = run("explain", "clip.mp4", "--model", "net.onnx")
    assert result.exit_code == 1
    assert "only PyTorch models see videos frame by frame; give pictures, or wrap it" in result.stderr
