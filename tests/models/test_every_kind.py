"""The table of docs/bring-your-model.md, kind by kind: each file is written, loaded, explained or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from helpers import kinds_in_docs
from safetensors.torch import save_file
from torch import nn

import chronocam as cc
from chronocam.errors import LayerError, ModelError

CODE = """
from torch import nn
class Net(nn.Module):
    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
def net(): return Net()
class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn, self.head = nn.Conv2d(3, 4, 3), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)
    def forward(self, x):
        n, t = x.shape[:2]
        return self.head(self.rnn(self.conv(x.flatten(0, 1)).mean((2, 3)).view(n, t, -1))[0][:, -1])
"""
ARCH = "@python:kind_nets:net"
SUITE = Path(__file__).parents[1] / "on_keras" / "suite_every_kind.py"
TRUST = {"trust": True}
Case = tuple[str, dict[str, Any], nn.Module, tuple[int, ...]]
"""A spec, how it is loaded, the network that it was made from, the shape of its inputs."""

SHAPE = (3, 16, 16)


def weights(content: Callable[[nn.Module], object], name: str = "a.pth", **how: Any) -> Callable[[Any], Case]:
    """Return what saves a network as part of `content`."""

    def write(nets: Any) -> Case:
        model = nets.net()
        torch.save(content(model), name, **how)
        return name + ARCH, {}, model, SHAPE

    return write


def prefixed(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in model.state_dict().items()}


def other(classes: int, channels: int) -> Callable[[Any], Case]:
    def write(nets: Any) -> Case:
        model = nets.Net(classes, channels)
        torch.save(model.state_dict(), "a.pth")
        return f"a.pth{ARCH}", {}, model, (channels, 16, 16)

    return write


def safetensors(nets: Any) -> Case:
    model = nets.net()
    save_file(model.state_dict(), "a.safetensors")
    return f"a.safetensors{ARCH}", {}, model, SHAPE


def shards(nets: Any) -> Case:
    model = nets.net()
    Path("net").mkdir()
    named = {key: f"model-{i}.safetensors" for i, key in enumerate(model.state_dict())}
    for key, name in named.items():
        save_file({key: model.state_dict()[key]}, f"net/{name}")
    Path("net/model.safetensors.index.json").write_text(f'{{"weight_map": {named}}}'.replace("'", '"'))
    return f"net{ARCH}", {}, model, SHAPE


def pickled(content: Callable[[nn.Module], object]) -> Callable[[Any], Case]:
    def write(nets: Any) -> Case:
        model = nets.net()
        torch.save(content(model), "a.pt")
        return "a.pt", TRUST, model, SHAPE

    return write


def scripted(nets: Any) -> Case:
    model = nets.net().eval()
    torch.jit.script(model).save("a.pt")
    return "a.pt", TRUST, model, SHAPE


def traced(nets: Any) -> Case:
    model = nets.net().eval()
    torch.jit.trace(model, torch.rand(1, *SHAPE)).save("a.pt")
    return "a.pt", TRUST, model, SHAPE


def exported(nets: Any) -> Case:
    model = nets.net().eval()
    free = {0: torch.export.Dim("n")}
    torch.export.save(torch.export.export(model, (torch.rand(2, *SHAPE),), dynamic_shapes=(free,)), "a.pt2")
    return "a.pt2", TRUST, model, SHAPE


def hub_folder(nets: Any) -> Case:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_sizes": [8, 8], "depths": [1, 1], "embedding_size": 8, "num_labels": 3}
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes)).eval()
    model.save_pretrained("hub")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained("hub")
    return "hub", {}, model, (3, 32, 32)


def onnx_of(model: nn.Module, *shape: int) -> Case:
    pytest.importorskip("onnx2torch")
    torch.onnx.export(model.eval(), (torch.rand(1, *shape),), "a.onnx", input_names=["x"], dynamo=False)
    return "a.onnx", {}, model, shape


def onnx_last(nets: Any) -> Case:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets.net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x.permute(0, 3, 1, 2).float())

    pytest.importorskip("onnx2torch")
    model = Last().eval()
    pixels = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    torch.onnx.export(model, (pixels,), "a.onnx", input_names=["x"], dynamo=False)
    return "a.onnx", {}, model, (16, 16, 3)


def onnx_quantised(how: str) -> Callable[[Any], Case]:
    def write(nets: Any) -> Case:
        tools: Any = pytest.importorskip("onnxruntime.quantization")
        spec, options, model, shape = onnx_of(nets.net(), *SHAPE)
        rng = np.random.default_rng(0)
        samples = iter([{"x": rng.random((1, *shape), np.float32)} for _ in range(3)])

        class Reader(tools.CalibrationDataReader):
            def get_next(self) -> Any:
                return next(samples, None)

        tools.quantize_static(spec, "q.onnx", Reader(), quant_format=getattr(tools.QuantFormat, how))
        return "q.onnx", options, model, shape

    return write


def raw(content: bytes, name: str = "a.pth") -> Callable[[Any], Case]:
    def write(nets: Any) -> Case:
        Path(name).write_bytes(content)
        return name, {}, nn.Identity(), SHAPE

    return write


def saved(content: Callable[[nn.Module], object], then: Callable[[], str]) -> Callable[[Any], Case]:
    def write(nets: Any) -> Case:
        torch.save(content(nets.net()), "a.pth")
        return then() + ARCH, {}, nn.Identity(), SHAPE

    return write


def zipped() -> str:
    with ZipFile("b.pth", "w") as archive:
        archive.write("a.pth")
    return "b.pth"


def cut() -> str:
    Path("b.pth").write_bytes(Path("a.pth").read_bytes()[:-99])
    return "b.pth"


def renamed() -> str:
    return str(shutil.copy("a.pth", "a.safetensors"))


def plain(model: nn.Module) -> object:
    return model.state_dict()


def with_integers(model: nn.Module) -> object:
    return {"head._packed_params.dtype": torch.qint8, **model.state_dict()}


WRITERS: dict[str, Callable[[Any], Case]] = {
    "weights of PyTorch": weights(plain),
    "weights of PyTorch before 1.6": weights(plain, _use_new_zipfile_serialization=False),
    "checkpoint of Lightning": weights(
        lambda m: {"state_dict": prefixed(m, "model."), "hyper_parameters": {"path": Path("x")}}, "a.ckpt"
    ),
    "`.pth.tar` with epoch and optimizer": weights(
        lambda m: {"epoch": 1, "state_dict": prefixed(m, "module."), "optimizer": {"state": {}}}, "a.pth.tar"
    ),
    "weights beside their moving average": weights(
        lambda m: {
            "state_dict": m.state_dict(),
            "state_dict_ema": {k: v + 1 for k, v in m.state_dict().items()},
        }
    ),
    "weights of a compiled or parallel network": weights(lambda m: prefixed(m, "module._orig_mod.")),
    "weights in bfloat16": weights(lambda m: {k: v.bfloat16() for k, v in m.bfloat16().state_dict().items()}),
    "weights for another number of classes": other(7, 3),
    "weights for grey pictures": other(3, 1),
    "safetensors": safetensors,
    "weights in several files": shards,
    "quantised weights of PyTorch": saved(with_integers, lambda: "a.pth"),
    "optimizer without a network": saved(
        lambda m: torch.optim.Adam(m.parameters()).state_dict(), lambda: "a.pth"
    ),
    "pickled network": pickled(lambda m: m),
    "pickled network beside its history": pickled(lambda m: {"epoch": 1, "net": m}),
    "scripted network": scripted,
    "traced network": traced,
    "exported network (`.pt2`)": exported,
    "folder of Hugging Face": hub_folder,
    "ONNX of a CNN": lambda nets: onnx_of(nets.net(), *SHAPE),
    "ONNX of a CNN and an LSTM": lambda nets: onnx_of(nets.Steps(), 4, *SHAPE),
    "ONNX with channels last and pixels": onnx_last,
    "ONNX quantised by nodes (QDQ)": onnx_quantised("QDQ"),
    "ONNX of integer operations": onnx_quantised("QOperator"),
    "empty file": raw(b""),
    "pointer of Git LFS": raw(b"version https://git-lfs.github.com/spec/v1\n"),
    "page of the web": raw(b"<!DOCTYPE html><html>"),
    "zip archive of a file": saved(plain, zipped),
    "file that was not fetched to its end": saved(plain, cut),
    "file under a wrong name": saved(plain, renamed),
    "model of Core ML, TensorRT, Paddle, OpenVINO": raw(b"\x01", "a.mlmodel"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRITERS)
def test_each_kind_does_what_the_table_says(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("kind_nets.py").write_text(CODE)
    torch.manual_seed(0)
    import kind_nets

    spec, options, model, shape = WRITERS[kind](kind_nets)
    result = kinds_in_docs()[kind]
    if result == "a line that says why":
        with pytest.raises(ModelError) as caught:
            cc.models.load(spec, **options)
        assert "\n" not in str(caught.value)
        return
    if options:
        with pytest.raises(ModelError, match="--trust"):
            cc.models.load(spec)
    loaded = cc.models.load(spec, **options).model
    x = np.random.default_rng(1).random((2, *shape), np.float32)
    if "pixels" in kind:
        x = np.rint(255 * x)
    method = cc.GradCAM if result == "every method" else cc.Occlusion
    found, wanted = method(loaded).explain(x, 1), method(model.eval()).explain(torch.from_numpy(x), 1)
    loose = 0.05 if "quantised" in kind or "integer" in kind or "16" in kind else 1e-4
    np.testing.assert_allclose(found.scores, wanted.scores, atol=loose * np.abs(wanted.scores).max() + 1e-6)
    assert found.maps.shape == wanted.maps.shape
    if method is cc.Occlusion:
        with pytest.raises(LayerError):
            cc.GradCAM(loaded).explain(x, 1)


def test_every_row_of_the_table_is_held() -> None:
    held = SUITE.read_text(encoding="utf-8")
    rows = kinds_in_docs()
    assert len(rows) >= 45
    assert set(WRITERS) <= set(rows)
    assert [kind for kind in rows if kind not in WRITERS and f'"{kind}": ' not in held] == []
