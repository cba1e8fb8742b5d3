"""Published networks from their files to what their owners know of them; skipped without the data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run

import chronocam as cc

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

FACES = f"""
import sys
from pathlib import Path
import numpy as np
import chronocam as cc
folder = Path(sys.argv[1])
loaded = cc.models.load(
    str(folder / "fer2013_mini_XCEPTION.102-0.66.hdf5"), preprocess={{"range": (-1, 1)}}, labels={EMOTIONS!r}
)
assert loaded.preprocess.resize == (64, 64) and loaded.preprocess.assumption is None
for name in ("surprise", "happy", "sad", "angry"):
    e = cc.GradCAM(loaded, "add_3").explain(folder / f"{{name}}.png")
    assert e.targets[0][0].name == name, (name, e.targets)
    if name == "happy":
        fine = np.maximum(e.upsample()[0, 0], 0)
        assert fine[32:].sum() > 0.5 * fine.sum()
    guess = cc.GradCAM(cc.models.load(loaded.spec)).explain(folder / f"{{name}}.png")
    assert any("a guess" in text for text in guess.diagnostics)
"""


@pytest.mark.slow
def test_faces_of_a_keras_2_file_are_what_their_owner_says(data: Path) -> None:
    pytest.importorskip("keras")
    folder = data / "real" / "emotion"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    done = subprocess.run([sys.executable, "-c", FACES, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_a_video_network_of_a_factory_knows_what_is_in_a_clip(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    folder = data / "kinetics"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    loaded = cc.models.load("python:movinet_a0:kinetics")
    clip = loaded.preprocess.read(folder / "arm_wrestling.mp4")
    e = cc.GradCAM(loaded).explain(clip)
    assert e.targets[0][0].name == "arm wrestling"
    assert np.isfinite(e.maps).all()
    assert e.dims == ("batch", "target", "time", "height", "width")
    checks = run("doctor", "python:movinet_a0:kinetics", str(folder / "arm_wrestling.mp4"))
    assert checks.exit_code == 0, checks.stdout
    assert "arm wrestling" in checks.stdout


STEERING = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image, ImageFilter
import chronocam as cc
folder = Path(sys.argv[1])
# Of the orders of colours this one alone gives what the network was given: r 0.999, others below 0.7.
loaded = cc.models.load(str(folder / "pilotnet.keras"), preprocess={"channels": "bgr2yuv"})
given = np.load(folder / "inputs.npz")
angles = loaded.model.predict(given["x"].astype("float32"), verbose=0).ravel()
rng = np.random.default_rng(0)
moved = []
for name, x, angle in zip(("center", "left", "right"), given["x"], angles):
    picture = Image.open(folder / f"{name}.png").convert("RGB").crop((0, 60, 320, 135))
    own = loaded.preprocess(picture)
    assert np.corrcoef(own.ravel(), x.ravel())[0, 1] > 0.998
    assert abs(float(loaded.model(own[None], training=False)[0, 0]) - angle) < 0.02
    e = cc.HiResCAM(loaded, "conv2d_2").explain(own[None], cc.targets.Regression())
    assert e.maps.shape[2:] == (5, 22)
    soft = [Image.fromarray(one).filter(ImageFilter.GaussianBlur(8)) for one in np.moveaxis(x, -1, 0)]
    blurred = np.stack([np.asarray(one) for one in soft], -1)
    def move(strength):
        hidden = strength >= np.quantile(strength, 0.9)
        changed = np.where(hidden[..., None], blurred, x).astype("float32")
        return abs(float(loaded.model(changed[None], training=False)[0, 0]) - angle)
    noise = [Image.fromarray(rng.random((5, 22)).astype("f4")) for _ in range(8)]
    blobs = [np.asarray(one.resize((200, 66), 3)) for one in noise]
    moved.append((move(np.abs(e.upsample()[0, 0])), np.mean([move(one) for one in blobs])))
ours, others = np.mean(moved, axis=0)
assert ours > 1.5 * others, (ours, others)
"""

LANE = """
import sys
from pathlib import Path
import numpy as np
import chronocam as cc
folder = Path(sys.argv[1])
loaded = cc.models.load(str(folder / "lane.keras"))
assert loaded.preprocess.resize == (80, 160) and loaded.preprocess.scale == 1
for name in ("test1", "test2", "straight_lines1"):
    x = loaded.preprocess(cc.media.read_image(folder / f"{name}.jpg"))[None]
    mask = loaded.model.predict(x, verbose=0)[0, ..., 0] > 0.5
    assert 0.05 < mask.mean() < 0.25 and not mask[:40].any()
    e = cc.HiResCAM(loaded, "Conv7").explain(x, cc.targets.Region((70, 55, 90, 70)))
    assert e.maps.shape[2:] == (12, 32)
    fine = np.abs(e.upsample()[0, 0])
    assert fine[36:].sum() > 0.9 * fine.sum()
"""


HEART = """
import json, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import keras
import numpy as np
from safetensors.numpy import load_file
import chronocam as cc
L, ops, folder = keras.layers, keras.ops, Path(sys.argv[1])
weights = load_file(folder / "weights.safetensors")
class AttentionLayer(L.Layer):
    def build(self, shape):
        sizes = {"attention_weight": (128, 128), "attention_bias": (128,), "attention_context": (128,)}
        self.w, self.b, self.u = (self.add_weight(shape=size, name=name) for name, size in sizes.items())
    def call(self, h):
        e = ops.softmax(ops.tanh(h @ self.w + self.b) @ ops.reshape(self.u, (-1, 1)), axis=1)
        return ops.sum(e * h, axis=1)
layers = []
for name, kind, options in json.loads((folder / "architecture.json").read_text()):
    if kind == "InputLayer":
        layers.append(keras.Input((180, 1)))
    elif kind == "Bidirectional":
        layers.append(L.Bidirectional(L.LSTM(64, return_sequences=True), name=name))
    else:
        kind = AttentionLayer if kind == "AttentionLayer" else getattr(L, kind)
        layers.append(kind(name=name, **options))
model = keras.Sequential(layers)
for layer in model.layers:
    end = layer.name.removeprefix("bidirectional")
    both = (f"forward_lstm{end}", f"backward_lstm{end}")
    sides = both if layer.name.startswith("bidirectional") else (layer.name,)
    orders = "kernel recurrent_kernel gamma attention_weight beta attention_bias bias moving_mean".split()
    orders += ["attention_context", "moving_variance"]
    found = []
    for own in sides:
        named = {key.rpartition("/")[2]: one for key, one in weights.items() if key.split("/")[0] == own}
        found += [named[name] for name in orders if name in named]
    layer.set_weights(found)
beats = np.load(folder / "beats.npz")
with TemporaryDirectory() as home:
    path = str(Path(home) / "ecg.keras")
    model.save(path)
    try:
        cc.models.load(path)
        raise SystemExit("code without a class")
    except cc.errors.ModelError as error:
        assert 'custom_objects={"AttentionLayer": AttentionLayer}' in str(error), error
    loaded = cc.models.load(path, custom_objects={"AttentionLayer": AttentionLayer}, labels=list("FNQSV"))
x, y = beats["x"].astype("float32"), beats["y"]
letters = np.asarray([str(one) if isinstance(one, str) else "NVSFQ"[one] for one in y.tolist()])
found = np.asarray(list("FNQSV"))[loaded.model.predict(x, verbose=0).argmax(1)]
assert (found == letters).sum() >= 95, (found == letters).sum()
e = cc.InputXGradient(loaded.model).explain(x, [int("FNQSV".index(one)) for one in letters])
strength = np.abs(e.maps[:, 0]).reshape(len(x), 180)
share = strength / strength.sum(1, keepdims=True)
p, qrs = share[:, 30:70].sum(1), share[:, 70:110].sum(1)
for letter in "FQ":
    assert qrs[letters == letter].mean() > p[letters == letter].mean(), letter
assert p[letters == "S"].mean() > qrs[letters == "S"].mean()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "code"), [("steering", STEERING), ("lane", LANE), ("ecg", HEART)])
def test_roads_and_beats_are_seen_where_they_count(data: Path, folder: str, code: str) -> None:
    pytest.importorskip("keras")
    if not (data / "real" / folder).is_dir():
        pytest.skip(f"there is no {data / 'real' / folder}")
    command = [sys.executable, "-c", code, data / "real" / folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def loaded_with(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str, spec: str, size: str
) -> cc.models.Loaded:
    """Return a network whose weights and code lie in a folder of the data."""
    if not (data / name).is_dir():
        pytest.skip(f"there is no {data / name}")
    monkeypatch.syspath_prepend(data / name)
    return cc.models.load(f"{data / name}/{spec}", preprocess={"range": "0..1", "size": size})


@pytest.mark.slow
def test_an_age_comes_from_the_face(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_with(data, monkeypatch, "age", "age_net.safetensors@python:age_net:AgeNet", "112")
    face = cc.media.read_image(data / "photos" / "skimage_astronaut.png").crop((160, 20, 300, 200))
    x = loaded.preprocess(face.resize((128, 128)))[None]
    e = cc.GradCAM(loaded.model).explain(x, cc.targets.Regression())
    assert 19 < e.scores[0, 0] < 60
    strength = np.abs(e.upsample()[0, 0])

    def moved(hidden: np.ndarray) -> float:
        changed = np.where(hidden, x.mean((2, 3), keepdims=True), x).astype(np.float32)
        with torch.no_grad():
            return abs(float(loaded.model(torch.from_numpy(changed))) - float(e.scores[0, 0]))

    assert moved(strength > np.quantile(strength, 0.8)) > moved(strength < np.quantile(strength, 0.2))


@pytest.mark.slow
def test_pixels_of_a_class_are_seen_on_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "deeplab_voc.safetensors@python:deeplab_voc:DeepLabVOC"
    loaded = loaded_with(data, monkeypatch, "segmentation", spec, "257x257")
    x = loaded.preprocess(cc.media.read_image(data / "photos" / "coral_dog_segmentation.bmp"))[None]
    dog = 12
    with torch.no_grad():
        mask = (loaded.model(torch.from_numpy(x)).argmax(1)[0] == dog).numpy()
    assert 0.05 < mask.mean() < 0.9
    e = cc.HiResCAM(loaded).explain(x, cc.targets.Region.predicted(dog))
    fine = np.maximum(e.upsample()[0, 0], 0)
    assert fine[mask].sum() > 0.8 * fine.sum()


@pytest.mark.slow
def test_a_box_is_seen_in_its_place(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "yolox_nano.safetensors@python:yolox_nano:YOLOXNano"
    loaded = loaded_with(data, monkeypatch, "detector", spec, "416x416")
    x = loaded.preprocess(cc.media.read_image(data / "photos" / "coral_cat_720p.jpg"))[None]
    dets = cc.detect(loaded.model, x, boxes="xyxy")
    assert len(dets)
    assert dets[0].label in (15, "15", "class 15")  # a cat, by COCO's numbers
    e = cc.ODAM(loaded.model).explain(x, cc.targets.Boxes(dets[:1]))
    fine = np.maximum(e.upsample()[0, 0], 0)
    x0, y0, x1, y1 = (round(float(side)) for side in np.clip(dets[0].box, 0, 416))
    assert fine[y0:y1, x0:x1].sum() > 0.7 * fine.sum()
