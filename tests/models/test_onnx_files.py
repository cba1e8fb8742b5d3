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
    def __init__(self, kind: str = "LSTM", **options: Any) -> None:
        super().__init__()
        self.conv, self.rnn = (
            nn.Conv2d(3, 4, 3, stride=2),
            getattr(nn, kind)(4, 6, batch_first=True, **options),
        )
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t = x.shape[:2]
        found = self.conv(x.flatten(0, 1)).mean((2, 3)).view(n, t, -1)
        return self.head(self.rnn(found)[0][:, -1])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def exported(
    model: nn.Module,
    *shape: int,
    free: bool = False,
    name: str = "net.onnx",
    axes: dict[int, str] | None = None,
    opset: int | None = None,
) -> nn.Module:
    axes = {0: "n", 2: "h", 3: "w"} if free else axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.rand(shape),),
            name,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes, "y": {0: "n"}} if axes else None,
            opset_version=opset,
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


@pytest.mark.parametrize(
    ("free", "options"),
    [
        (False, {"kind": "LSTM"}),
        (True, {"kind": "LSTM", "bidirectional": True, "num_layers": 2}),
        (True, {"kind": "GRU"}),
        (False, {"kind": "GRU", "bidirectional": True, "num_layers": 2}),
        (False, {"kind": "RNN"}),
        (True, {"kind": "RNN", "nonlinearity": "relu"}),
    ],
)
def test_a_clip_through_a_cnn_and_a_recurrent_network_has_layers(free: bool, options: dict[str, Any]) -> None:
    model = exported(Steps(**options), 1, 4, 3, 20, 20, axes={0: "n"} if free else None)
    loaded = cc.models.load("net.onnx")
    assert isinstance(loaded.preprocess, ClipPreprocess)
    assert (loaded.preprocess.frames, loaded.preprocess.axes) == (4, "time channel")
    x = torch.rand(3, 4, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(x), model(x))
    found, wanted = cc.GradCAM(loaded.model).explain(x, 1), cc.GradCAM(model).explain(x, 1)
    assert (found.layer, wanted.layer) == ("conv_Conv", "conv")
    np.testing.assert_allclose(found.maps, wanted.maps, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"direction": "reverse"}, r"LSTM that goes backwards alone"),
        ({"activations": ["HardSigmoid", "Tanh", "Tanh"]}, r"LSTM with the activations HardSigmoid"),
        ({"clip": 1.0}, r"LSTM with clip"),
    ],
)
def test_a_recurrent_network_that_pytorch_has_not_is_a_black_box(change: dict[str, Any], why: str) -> None:
    exported(Steps(), 1, 4, 3, 20, 20)
    proto = onnx.load("net.onnx")
    (node,) = (one for one in proto.graph.node if one.op_type == "LSTM")
    for name, value in change.items():
        node.attribute.append(onnx.helper.make_attribute(name, value))
    onnx.save(proto, "net.onnx")
    loaded = cc.models.load("net.onnx")
    x = np.random.default_rng(0).random((2, 4, 3, 20, 20), np.float32)
    assert np.abs(cc.Occlusion(loaded.model, baseline="zero").explain(x, 1).maps).max() > 0
    with pytest.raises(LayerError, match=rf"layers are not at hand, since .*{why}"):
        cc.GradCAM(loaded.model).explain(x, 1)


def graph_with_unknown_operation() -> Any:
    make = onnx.helper
    nodes = [
        make.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        make.make_node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        make.make_node("ReduceMean", ["f"], ["y"], axes=[2, 3], keepdims=0),
    ]
    ends = (
        make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 3, 8, 8]),
        make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 3]),
    )
    graph = make.make_graph(nodes, "g", [ends[0]], [ends[1]])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)


def test_operations_without_a_counterpart_are_named() -> None:
    onnx.save(graph_with_unknown_operation(), "net.onnx")
    with pytest.raises(LayerError, match=r"not at hand, since onnx2torch has no `DynamicQuantizeLinear`;"):
        cc.GradCAM(cc.models.load("net.onnx").model).explain(np.zeros((1, 3, 8, 8), np.float32), 1)


@pytest.mark.parametrize(
    ("opset", "act"),
    [
        (9, nn.Hardswish()),
        (13, nn.GELU()),
        (16, nn.GELU("tanh")),
        (20, nn.GELU()),
        (20, nn.GELU("tanh")),
        (20, nn.ReflectionPad2d(1)),
    ],
)
def test_versions_of_onnx_are_read_alike(opset: int, act: nn.Module) -> None:
    model = CNN()
    model.features[2] = act
    exported(model, 1, 3, 16, 16, free=True, opset=opset)
    loaded = cc.models.load("net.onnx")
    assert isinstance(loaded.model, nn.Module), loaded.model.why
    x = torch.rand(2, 3, 16, 16)
    maps = cc.GradCAM(loaded.model).explain(x, 1).maps
    np.testing.assert_allclose(maps, cc.GradCAM(model).explain(x, 1).maps, atol=1e-6)


@pytest.mark.parametrize("opset", [21, 23])
def test_versions_that_are_newer_than_the_converter(opset: int) -> None:
    model = exported(CNN(), 1, 3, 32, 32, free=True, opset=18)
    newer = onnx.version_converter.convert_version(onnx.load("net.onnx"), opset)
    onnx.save(newer, "net.onnx")
    x = torch.rand(2, 3, 32, 32)
    maps = cc.GradCAM(cc.models.load("net.onnx").model).explain(x, 1).maps
    np.testing.assert_allclose(maps, cc.GradCAM(model).explain(x, 1).maps, atol=1e-6)


def test_several_inputs_and_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.side, self.head = nn.Conv2d(3, 4, 3), nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.conv(x).relu().mean((2, 3)) + self.side(z)
            return self.head(found), found

    model, given = Two().eval(), (torch.rand(2, 3, 16, 16), torch.rand(2, 5))
    torch.onnx.export(model, given, "net.onnx", input_names=["x", "z"], output_names=["y", "f"], dynamo=False)
    found = cc.GradCAM(cc.models.load("net.onnx").model).explain(given, 1)
    wanted = cc.GradCAM(model, "conv").explain(given, 1)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)
    assert found.maps.shape == wanted.maps.shape


def quantised(model: nn.Module, how: str) -> None:
    """Write `model`, quantised statically."""
    tools: Any = pytest.importorskip("onnxruntime.quantization")
    exported(model, 1, 3, 16, 16, free=True, opset=13, name="float.onnx")

    class Reader(tools.CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.samples = iter([{"x": rng.random((1, 3, 16, 16), np.float32)} for _ in range(4)])

        def get_next(self) -> Any:
            return next(self.samples, None)

    kind = getattr(tools.QuantFormat, how)
    tools.quantize_static("float.onnx", "net.onnx", Reader(), quant_format=kind, per_channel=True)


def test_a_network_that_is_quantised_has_the_layers_of_its_rounded_values() -> None:
    quantised(model := CNN().eval(), "QDQ")
    loaded = cc.models.load("net.onnx")
    x = torch.rand(4, 3, 16, 16) * torch.linspace(0, 1, 16)
    found = cc.LayerCAM(loaded.model, signed=True).explain(x, 1)
    assert found.layer == "features_features_4_Relu_output_0_DequantizeLinear"
    wanted = cc.LayerCAM(model, signed=True).explain(x, 1)
    assert np.corrcoef(found.maps.ravel(), wanted.maps.ravel())[0, 1] > 0.95


def test_a_network_of_integer_operations_is_a_black_box() -> None:
    quantised(CNN().eval(), "QOperator")
    with pytest.raises(LayerError, match=r"onnx2torch has no `QLinearConv`"):
        cc.GradCAM(cc.models.load("net.onnx").model).explain(torch.rand(1, 3, 16, 16), 1)


def conv_graph(kind: str, *, listed: bool = False) -> Any:
    """A convolution with channels last at the ends, as converters from TensorFlow write it.

    listed: its weights are inputs too, as before version 4 of the format.
    """
    make, rng = onnx.helper, np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(4, 5))}
    weights = [onnx.numpy_helper.from_array(one.astype(np.float32), name) for name, one in arrays.items()]
    cast = make.make_node("Cast", ["x"], ["f"], name="cast", to=onnx.TensorProto.FLOAT)
    nodes = [
        cast,
        make.make_node("Transpose", ["f"], ["t"], name="model/conv__12", perm=[0, 3, 1, 2]),
        make.make_node("Conv", ["t", "w"], ["c"], name="model/conv/Conv2D", strides=[2, 1]),
        make.make_node("Relu", ["c"], ["r"], name="model/relu/Relu"),
        make.make_node("Transpose", ["r"], ["b"], name="model/relu__13", perm=[0, 2, 3, 1]),
        make.make_node("ReduceMean", ["b"], ["m"], name="model/mean", axes=[1, 2], keepdims=0),
        make.make_node("MatMul", ["m", "v"], ["y"], name="model/dense"),
    ]
    inputs = [make.make_tensor_value_info("x", getattr(onnx.TensorProto, kind), ["n", 12, 10, 3])]
    if listed:
        inputs[:0] = [
            make.make_tensor_value_info(one.name, onnx.TensorProto.FLOAT, one.dims) for one in weights
        ]
    output = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 5])
    graph = make.make_graph(nodes, "g", inputs, [output], weights)
    ends = {"opset_imports": [make.make_opsetid("", 13)], "ir_version": 3 if listed else 8}
    return make.make_model(graph, **ends)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("kind", ["FLOAT", "UINT8"])
def test_channels_last_are_seen_by_layers(kind: str, listed: bool) -> None:
    proto = conv_graph(kind, listed=listed)
    onnx.save(proto, "net.onnx")
    loaded = cc.models.load("net.onnx")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8))
    x = loaded.preprocess(picture)[None]
    assert (x.shape, x.max() > 1) == ((1, 12, 10, 3), kind == "UINT8")
    w, v = (
        torch.from_numpy(onnx.numpy_helper.to_array(one).copy()).float() for one in proto.graph.initializer
    )
    seen = nn.functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), w, stride=(2, 1)).relu()
    e = cc.GradCAM(loaded.model).explain(x, 1)
    wanted = (seen[0] * v[:, 1, None, None] / seen[0, 0].numel()).sum(0).relu()
    np.testing.assert_allclose(e.maps[0, 0], wanted, atol=1e-6 * float(wanted.max() + 1))


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


def outside(location: str) -> None:
    """Write a network whose weights lie in another file."""
    Path("inside").mkdir(exist_ok=True)
    proto = small_graph("FLOAT")
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [3], [0.0] * 3)
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    proto.graph.initializer.append(tensor)
    proto.graph.node[1].output[0] = "m"
    proto.graph.node.append(onnx.helper.make_node("Add", ["m", "w"], ["y"], name="add"))
    Path("inside/net.onnx").write_bytes(proto.SerializeToString())


def test_weights_beside_a_network_are_read() -> None:
    outside("net.bin")
    Path("inside/net.bin").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    with torch.no_grad():
        found = cc.models.load("inside/net.onnx").model(torch.ones(1, 8, 8, 3))
    np.testing.assert_allclose(found, [[1, 2, 3]])


@pytest.mark.parametrize("location", ["../secret", "sub/../../secret", "link", "absolute", "gone.bin"])
def test_weights_outside_of_the_folder_are_not_read(location: str) -> None:
    Path("secret").write_bytes(b"\0" * 64)
    outside(str(Path("secret").resolve()) if location == "absolute" else location)
    Path("inside/link").symlink_to("../secret")
    with pytest.raises(ModelError, match="cannot be read"):
        cc.models.load("inside/net.onnx")


def test_what_is_no_onnx_file() -> None:
    Path("net.onnx").write_bytes(b"\xffhello")
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
    onnx.save(graph_with_unknown_operation(), "net.onnx")
    pytest.importorskip("av")
    from clip_files import encode

    encode(Path("clip.mp4"), 4)
    result = run("explain", "clip.mp4", "--model", "net.onnx")
    assert result.exit_code == 1
    assert "only PyTorch models see videos frame by frame; give pictures, or wrap it" in result.stderr
