"""The doors that bytes and words from elsewhere come through, and what is done with whatever gets in.

Behind each only a `ChronocamError` of one short line may come out: no other exception, no hang.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from fuzz.seeds import CORPUS
from fuzz.strategies import WORDS, changed, damaged, reshaped
from hypothesis import strategies as st

import chronocam as cc
from chronocam.errors import ChronocamError
from chronocam.runs.arrays import read_features


@dataclass(frozen=True)
class Entry:
    """One door.

    inputs: draws what comes through.
    use: takes it, in a folder of its own.
    """

    inputs: st.SearchStrategy[Any]
    use: Callable[[Any, Path], object]

    def refused(self, given: Any) -> bool:
        """Let one input in; say whether it was refused, as it should be. Whatever else happens is raised."""
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.use(given, Path(folder))
            except ChronocamError as error:
                message = str(error)
                assert message.replace("\u3000", "").replace("\xa0", "").isprintable() or _plain(message)
                assert 0 < len(message) <= 1000
                return True
        return False


def _plain(message: str) -> bool:
    return message == cc.errors.printable(message)


def wholes(folder: str, *suffixes: str) -> list[bytes]:
    """Return the seeds of some kinds."""
    paths = sorted(path for path in (CORPUS / folder).rglob("*") if path.suffix in suffixes)
    return [path.read_bytes() for path in paths]


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# Pictures, clips, arrays, drives, weights


def read_picture(data: bytes, folder: Path) -> None:
    image = cc.media.read_image(written(folder, "a.png", data))
    assert image.mode == "RGB"


def read_clip(data: bytes, folder: Path) -> None:
    assert cc.media.read_clip(written(folder, "a.mp4", data), 4).pixels.shape[3] == 3


def read_array(data: bytes, folder: Path) -> None:
    assert read_features(written(folder, "a.npy", data)).ndim == 2


def read_drive(given: tuple[str, bytes], folder: Path) -> None:
    name, data = given
    shutil.copytree(CORPUS / "drive", folder, dirs_exist_ok=True)
    written(folder, name, data)
    cc.data.drives.read_drive(folder / "sequences" / "00")


def load_weights(data: bytes, folder: Path) -> None:
    cc.models.load(f"{written(folder, 'a.safetensors', data)}@python:fuzz.nets:net")


def load_record(data: bytes, folder: Path) -> None:
    cc.models.load(str(written(folder, "model.json", data)))


@st.composite
def files_of_drives(draw: st.DrawFn) -> tuple[str, bytes]:
    names = (
        "sequences/00/calib.txt",
        "sequences/00/times.txt",
        "poses/00.txt",
        "sequences/00/image_2/000001.png",
    )
    name = draw(st.sampled_from(names))
    return name, draw(damaged([(CORPUS / "drive" / name).read_bytes()]))


# Saved explanations, and folders of them


def use_explanation(path: Path) -> None:
    """Do with an explanation from a file whatever one does with such."""
    one = cc.load(path)
    repr(one)
    one.save(path.with_name("page.html"))
    one.save(path.with_name("again.npz"))
    assert len(cc.load(path.with_name("again.npz"))) == len(one)
    if isinstance(one, cc.Explanation):
        one.normalize()
        if math.prod(one.input_size) * one.maps.shape[0] * one.maps.shape[1] < 1e6:
            np.asarray(one)
            one.boxes()
            one.save(path.with_name("sheet.png"))
        return
    one.top_features()
    if one.consecutive:
        one.voted()
        one.settling()
        one.memory_horizon()
    one.save(path.with_name("sheet.png"))


def load_bytes(data: bytes, folder: Path) -> None:
    use_explanation(written(folder, "a.npz", data))


def load_parts(given: tuple[Any, dict[str, np.ndarray]], folder: Path) -> None:
    header, arrays = given
    path = folder / "a.npz"
    np.savez(path, header=np.asarray(json.dumps(header)), **arrays)
    use_explanation(path)


@cache
def parts(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("header"))), arrays


@st.composite
def changed_parts(draw: st.DrawFn) -> tuple[Any, dict[str, np.ndarray]]:
    header, arrays = parts(draw(st.sampled_from(SAVED)))
    if draw(st.booleans()):
        return draw(changed(header)), arrays
    return header, draw(reshaped(arrays))


def report(given: tuple[str, bytes], folder: Path) -> None:
    """Write pages of a folder with one bad file: all others have theirs."""
    name, data = given
    shutil.copytree(CORPUS / "report", folder, dirs_exist_ok=True)
    written(folder, name, data)
    said: list[str] = []
    index = cc.report.write_folder(folder, folder / "out", say=said.append)
    assert all(line == cc.errors.printable(line) for line in said)
    bad = {Path(name).stem, *({"drive"} if name == "drive.depth.npz" else ())}
    pages = {path.stem for path in index.parent.glob("*.html")}
    for page, files in PAGES.items():
        assert page in pages or not bad.isdisjoint({page, *files}), page


PAGES: Final = {"picture": [], "clip": ["steps"], "drive": [], "votes": [], "index": []}


@st.composite
def files_of_reports(draw: st.DrawFn) -> tuple[str, bytes]:
    names = [path.name for path in sorted((CORPUS / "report").iterdir())]
    name = draw(st.sampled_from(names))
    whole = (CORPUS / "report" / name).read_bytes()
    if name.endswith(".json") and draw(st.booleans()):
        return name, json.dumps(draw(changed(json.loads(whole)))).encode()
    return name, draw(damaged([whole]))


# Words


@cache
def net() -> Any:
    from fuzz.nets import net as make

    return make()


def say(given: tuple[str, Any], folder: Path) -> None:
    kind, word = given
    pictures = np.zeros((1, 3, 24, 24), np.float32)
    if kind == "target":
        cc.GradCAM(net()).explain(pictures, word)
    elif kind == "layer":
        cc.GradCAM(net(), word).explain(pictures, 0)
    elif kind == "output layer":
        cc.GradCAM(net(), output_layer=word).explain(pictures, 0)
    elif kind == "batch":
        cc.GradCAM(net(), batch_size=word).explain(pictures, 0)
    elif kind == "spec":
        cc.models.load(word)
    elif kind == "method":
        cc.explain(net(), pictures, 0, methods=(word,))
    elif kind == "suffix":
        cc.GradCAM(net()).explain(pictures, 0).save(folder / f"a.{word.replace('/', '')[:100]}")
    elif kind == "file":
        cc.load(folder / word)
    else:
        cc.media.read_clip(CORPUS / "clips" / "clip.gif", 2, sampling=word)


NEAR: Final = st.sampled_from(
    ["cat", "dgo", "0", "2", "fpn[0]", "1.0", "gradcam", "gradcam@1", "npz", "timm:"]
)
SPECS: Final = st.one_of(
    WORDS,
    st.builds("chronocam:{}".format, WORDS),
    st.builds("{}.safetensors@python:fuzz.nets:net".format, WORDS),
    st.builds("python:fuzz.nets:{}".format, WORDS),
    st.builds("{}/model.json".format, WORDS),
)
KINDS: Final = ("target", "layer", "output layer", "batch", "method", "suffix", "file", "sampling")
NUMBERS: Final = st.one_of(st.integers(), st.floats(), st.booleans(), st.binary(max_size=3))

SAVED: Final = [
    path.read_bytes() for path in sorted((CORPUS / "report").glob("*.npz")) if "depth" not in path.name
]
RECORD: Final = (CORPUS / "weights" / "model.json").read_bytes()
PICTURES: Final = wholes("pictures", ".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm", ".tga")

ENTRIES: Final[dict[str, Entry]] = {
    "picture": Entry(damaged(PICTURES), read_picture),
    "clip": Entry(damaged(wholes("clips", ".gif", ".webp", ".mp4")), read_clip),
    "array": Entry(damaged(wholes("arrays", ".npy")), read_array),
    "drive": Entry(files_of_drives(), read_drive),
    "weights": Entry(damaged(wholes("weights", ".safetensors")), load_weights),
    "record": Entry(
        st.one_of(damaged([RECORD]), changed(json.loads(RECORD)).map(json.dumps).map(str.encode)), load_record
    ),
    "saved, bytes": Entry(damaged(SAVED), load_bytes),
    "saved, parts": Entry(changed_parts(), load_parts),
    "report": Entry(files_of_reports(), report),
    "words": Entry(
        st.one_of(
            st.tuples(st.sampled_from(KINDS), st.one_of(WORDS, NEAR)),
            st.tuples(st.sampled_from(("target", "layer", "batch")), NUMBERS),
            st.tuples(st.just("spec"), SPECS),
        ),
        say,
    ),
}
