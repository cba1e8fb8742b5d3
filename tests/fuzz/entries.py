"""The doors that bytes and words from elsewhere come through, and what is done with whatever gets in.

Behind each only a `ChronocamError` of one short line may come out: no other exception, no hang.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from fuzz.seeds import CORPUS, noise
from fuzz.strategies import WORDS, changed, damaged, reshaped
from hypothesis import strategies as st

import chronocam as cc
from chronocam.errors import ChronocamError
from chronocam.runs.arrays import read_features
from chronocam.runs.dataset.pages import write_run_pages


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


def load_checkpoint(data: bytes, folder: Path) -> None:
    path = written(folder, "a.pth", data)
    cc.models.load(f"{path}@python:fuzz.nets:net")


def load_whole(given: tuple[str, bytes], folder: Path) -> None:
    """Load a file that holds a whole network: without trust none does."""
    suffix, data = given
    written(folder, "saved_model.pb", data)
    cc.models.load(str(written(folder, f"a.{suffix}", data)))
    raise AssertionError("code of a file that is not trusted was run")


def load_network(given: tuple[str, bytes], folder: Path) -> None:
    suffix, data = given
    os.environ.setdefault("KERAS_BACKEND", "torch")
    cc.models.load(str(written(folder, f"a.{suffix}", data)))


def load_beside(data: bytes, folder: Path) -> None:
    """Load weights beside a file that says what the network wants, and explain a picture so prepared."""
    written(folder, "chronocam.json", data)
    path = written(folder, "a.safetensors", WEIGHTS)
    loaded = cc.models.load(f"{path}@python:fuzz.nets:net")
    if isinstance(loaded.preprocess, cc.media.Preprocess):
        cc.GradCAM(loaded).explain(noise(9, 8, 3), 0)


@st.composite
def networks(draw: st.DrawFn) -> tuple[str, bytes]:
    path = draw(st.sampled_from(sorted((CORPUS / "networks").glob("net.*"))))
    return path.suffix[1:], draw(damaged([path.read_bytes()]))


def json_of(data: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged JSON, in its bytes and in what it says."""
    return st.one_of(damaged([data]), changed(json.loads(data)).map(json.dumps).map(str.encode))


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


# Runs over a data set, and evaluations


def open_run(given: tuple[str, bytes], folder: Path) -> None:
    name, data = given
    shutil.copytree(CORPUS / "run", folder, dirs_exist_ok=True)
    written(folder, name, data)
    table = cc.runs.open(folder)
    table.to_pandas()
    assert table.failures <= len(table)
    table.where("score > 0 or error <> ''")
    for row in range(min(len(table), 3)):
        with suppress(cc.errors.MediaError):
            table[row].save(folder / "page.html")
            np.asarray(table[row])
    said = io.StringIO()
    with suppress(cc.errors.InputError), redirect_stderr(said):
        write_run_pages(table, folder / "pages")
    assert all(line == cc.errors.printable(line) for line in said.getvalue().splitlines())


@st.composite
def files_of_runs(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(path.name for path in (CORPUS / "run").iterdir())))
    whole = (CORPUS / "run" / name).read_bytes()
    if not name.endswith(".parquet") or draw(st.booleans()):
        return name, draw(json_of(whole) if name.endswith(".json") else damaged([whole]))
    return name, draw(parts_of_runs(whole))


@st.composite
def parts_of_runs(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a part with other values, columns or notes."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    table, column = parquet.read_table(io.BytesIO(whole)), draw(st.integers(0, 12))
    how, name = draw(st.sampled_from(["notes", "values", "remove"])), table.column_names[column]
    if how == "notes":
        notes = draw(changed(json.loads(table.schema.metadata[b"chronocam"])))
        table = table.replace_schema_metadata({"chronocam": json.dumps(notes)})
    elif how == "remove":
        table = table.drop_columns([name])
    else:
        try:
            table = table.set_column(column, name, [draw(changed(table[name].to_pylist()))])
        except (ValueError, TypeError, OverflowError, arrow.ArrowException):  # Parquet holds no such values
            table = table.set_column(column, name, arrow.nulls(len(table)))
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


@cache
def judged() -> bytes:
    """Return what an evaluation keeps of its samples."""
    with TemporaryDirectory() as folder:
        evaluate(Path(folder))
        return (Path(folder) / "samples.jsonl").read_bytes()


def evaluate(folder: Path) -> cc.Evaluation:
    pictures = np.linspace(0, 1, 2 * 3 * 24 * 24, dtype=np.float32).reshape(2, 3, 24, 24)
    return cc.evaluate(net(), pictures, 1, methods=["gradcam"], measures=["drop"], out=folder)


@st.composite
def lines_of_evaluations(draw: st.DrawFn) -> bytes:
    lines = judged().splitlines(keepends=True)
    if draw(st.booleans()):
        return draw(damaged([b"".join(lines)]))
    at = draw(st.integers(0, len(lines) - 1))
    lines[at] = json.dumps(draw(changed(json.loads(lines[at])))).encode() + b"\n"
    return b"".join(lines)


def go_on_judging(data: bytes, folder: Path) -> None:
    written(folder, "samples.jsonl", data)
    result = evaluate(folder)
    result.to_pandas()
    result.save(folder / "page.html")
    result.save(folder / "result.json")


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
WEIGHTS: Final = (CORPUS / "weights" / "net.safetensors").read_bytes()
RECORD: Final = (CORPUS / "weights" / "model.json").read_bytes()
PICTURES: Final = wholes("pictures", ".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm", ".tga")

ENTRIES: Final[dict[str, Entry]] = {
    "picture": Entry(damaged(PICTURES), read_picture),
    "clip": Entry(damaged(wholes("clips", ".gif", ".webp", ".mp4")), read_clip),
    "array": Entry(damaged(wholes("arrays", ".npy")), read_array),
    "drive": Entry(files_of_drives(), read_drive),
    "weights": Entry(damaged(wholes("weights", ".safetensors")), load_weights),
    "record": Entry(json_of(RECORD), load_record),
    "beside": Entry(json_of((CORPUS / "weights" / "chronocam.json").read_bytes()), load_beside),
    "checkpoint": Entry(damaged(wholes("weights", ".pth", ".ckpt", ".pt")), load_checkpoint),
    "untrusted": Entry(
        st.tuples(
            st.sampled_from(("pt", "pth", "pt2", "pkl", "bin")),
            damaged([*wholes("networks", ".pt"), *wholes("weights", ".pt")]),
        ),
        load_whole,
    ),
    "network": Entry(networks(), load_network),
    "saved, bytes": Entry(damaged(SAVED), load_bytes),
    "saved, parts": Entry(changed_parts(), load_parts),
    "report": Entry(files_of_reports(), report),
    "run": Entry(files_of_runs(), open_run),
    "evaluation": Entry(lines_of_evaluations(), go_on_judging),
    "words": Entry(
        st.one_of(
            st.tuples(st.sampled_from(KINDS), st.one_of(WORDS, NEAR)),
            st.tuples(st.sampled_from(("target", "layer", "batch")), NUMBERS),
            st.tuples(st.just("spec"), SPECS),
        ),
        say,
    ),
}
