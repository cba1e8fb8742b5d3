"""Every source of inputs gives the same picture, and what is no source is refused in a line."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chronocam as cc
from chronocam.errors import ChronocamError, InputError, MediaError
from chronocam.runs.dataset.inputs import fetched, find_items

NAMES = ("a.png", "b/c.JPG", "b/d e.bmp")


def pixels(name: str) -> np.ndarray:
    return np.full((8, 8, 3), 20 * (1 + NAMES.index(name)), np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in NAMES:
        cc.media.write_image(tmp_path / "photos" / name, pixels(name))
    (tmp_path / "photos/words.txt").write_text("no picture")
    (tmp_path / "photos/.hidden.png").write_bytes((tmp_path / "photos/a.png").read_bytes())
    return tmp_path / "photos"


def folder(photos: Path) -> list[str]:
    return [str(photos)]


def pattern(photos: Path) -> list[str]:
    return [f"{photos}/**/*.*[gGp]"]


def listed(photos: Path) -> list[str]:
    with (photos / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "path"), *(("0", name) for name in NAMES)])
    return [str(photos / "list.csv")]


def listed_in_parquet(photos: Path) -> list[str]:
    pq.write_table(pa.table({"path": [str(photos / name) for name in NAMES]}), photos / "list.parquet")
    return [str(photos / "list.parquet")]


def archived(photos: Path) -> list[str]:
    with tarfile.open(photos / "0.tar", "w") as archive:
        for name in (*NAMES, "words.txt", ".hidden.png"):
            archive.add(photos / name, name)
    return [f"{photos}/*.tar"]


def arrow(photos: Path) -> list[str]:
    save_arrow(photos / "arrow", [(photos / name).read_bytes() for name in NAMES])
    return [str(photos / "arrow")]


def of_file(photos: Path) -> list[str]:
    return [f"file://{photos}"]


def of_memory(photos: Path) -> list[str]:
    store = fsspec.filesystem("memory")
    for name in NAMES:
        store.pipe_file(f"/store/{name}", (photos / name).read_bytes())
    return ["memory://store"]


def save_arrow(place: Path, pictures: list[bytes], **columns: Any) -> None:
    """Write what `Dataset.save_to_disk` does, as far as it is read."""
    place.mkdir()
    images = [{"bytes": one, "path": None} for one in pictures]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = columns.pop("names", None)
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}} if names else {}
    table = pa.table({"img": pa.array(images, kind), **columns})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    with pa.ipc.new_stream(str(place / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    (place / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )


SOURCES = [folder, pattern, listed, listed_in_parquet, archived, arrow, of_file, of_memory]


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_each_picture_once(source: Callable[[Path], list[str]], photos: Path) -> None:
    arguments = source(photos)
    items = find_items([*arguments, *arguments], clips=False)
    seen = []
    for item in items:
        with fetched(item) as path:
            seen.append(int(np.asarray(cc.media.read_image(path)).mean().round()))
    assert seen == [int(pixels(name).mean()) for name in NAMES]


@pytest.fixture
def served(photos: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(photos.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("form", ["photos", "photos/", "photos/list.csv", "photos/0.tar"])
def test_a_web_server_is_a_source(form: str, served: str, photos: Path) -> None:
    listed(photos)
    archived(photos)
    items = find_items([f"{served}/{form}"], clips=False)
    assert len(items) == len(NAMES)
    with fetched(items[-1]) as path:
        assert np.asarray(cc.media.read_image(path)).mean().round() == pixels(NAMES[-1]).mean()


def test_labels_come_with_the_inputs(photos: Path) -> None:
    rows = [("path", "label"), ("a.png", "cat"), ("b/c.JPG", ""), ("a.png", "dog"), ("a.png", "cat")]
    with (photos / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert [one.label for one in find_items([str(photos / "list.csv")], clips=False)] == ["cat", "dog", ""]

    # A column of whole numbers with gaps is one of floats.
    pq.write_table(pa.table({"path": ["a.png", "b/c.JPG"], "label": [3.0, None]}), photos / "list.parquet")
    assert [one.label for one in find_items([str(photos / "list.parquet")], clips=False)] == ["3", ""]

    with tarfile.open(photos / "0.tar", "w") as archive:
        archive.add(photos / "a.png", "x/1.rgb.png")
        label = tarfile.TarInfo("x/1.cls")
        label.size = 2
        archive.addfile(label, io.BytesIO(b"7\n"))
    assert [one.label for one in find_items([str(photos / "0.tar")], clips=False)] == ["7"]

    save_arrow(photos / "arrow", [b"", b"", b""], label=[1, -1, 0], names=["cat", "dog"])
    assert [one.label for one in find_items([str(photos / "arrow")], clips=False)] == ["dog", "", "cat"]


def test_arrow_files_of_other_forms_are_read(photos: Path) -> None:
    place = photos / "arrow"
    place.mkdir()
    table = pa.table({"label": [1], "jpg": [(photos / "a.png").read_bytes()]})
    with pa.ipc.new_file(str(place / "0.arrow"), table.schema) as file:
        file.write_table(table)
    (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": "0.arrow"}]}))
    features = {"features": {"label": {"names": ["cat", "dog"]}}}
    (place / "dataset_info.json").write_text(json.dumps(features))
    (item,) = find_items([str(place)], clips=False)
    assert item.label == "dog"
    with fetched(item) as path:
        assert np.asarray(cc.media.read_image(path)).mean() == pixels("a.png").mean()


def test_clips_are_videos_and_folders_of_frames(tmp_path: Path) -> None:
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    cc.media.write_clip(tmp_path / "clips/a.mp4", frames, 10)
    cc.media.write_image(tmp_path / "clips/thumbnail.png", frames[0])
    for k in range(3):
        cc.media.write_image(tmp_path / f"clips/b/{k}.png", frames[k])
    keys = [one.key for one in find_items([str(tmp_path / "clips")], clips=True)]
    assert [Path(key).name for key in keys] == ["a.mp4", "b"]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], ["clips/b"], ["clips/a.mp4"]])
    assert [one.key for one in find_items([str(tmp_path / "list.csv")], clips=True)] == keys
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "clips/b"), "/clips/b", recursive=True)
    (item,) = find_items(["memory://clips"], clips=True)
    with fetched(item) as path:
        assert len(cc.media.read_clip(path, frames=3)) == 3


def refusals(photos: Path) -> dict[str, tuple[bytes | None, str]]:
    csv_of = "\n".join
    return {
        "none.csv": (None, "there is no `.*none.csv`"),
        "empty.csv": (b"", "is empty; expected a column `path`"),
        "columns.csv": (b"file;label\na.png;1\n", "has the columns file;label; expected a column `path`"),
        "rows.csv": (b"path\n", "names no pictures"),
        "twice.csv": (b"path,label,path\na.png,3,b.png\n", "has several columns `path`; expected one"),
        "latin.csv": (
            csv_of(["path", "caf\xe9.png"]).encode("latin-1"),
            "cannot read .* expected a manifest",
        ),
        "long.csv": (b"path\n" + b"a" * 200_000, r"cannot read .*field larger"),
        "bytes.parquet": (b"PAR1 and no more", "cannot read .* expected a manifest"),
        "broken.tar": (b"no tar" * 100, "cannot read .* expected a plain tar"),
        "none.tar": (None, "there is no `.*none.tar`"),
        "zipped.tar.gz": (b"", "is compressed"),
    }


@pytest.mark.parametrize("name", refusals(Path()))
def test_what_is_no_source_is_refused_in_a_line(name: str, photos: Path) -> None:
    data, said = refusals(photos)[name]
    if data is not None:
        (photos / name).write_bytes(data)
    with pytest.raises(ChronocamError, match=said):
        find_items([str(photos / name)], clips=False)


@pytest.mark.parametrize("kept", ["header", "bytes", "end"])
def test_what_is_lost_of_a_tar_that_breaks_off_has_a_row(kept: str, photos: Path) -> None:
    archived(photos)
    path = photos / "0.tar"
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1]
    place = {"header": second.offset + 100, "bytes": second.offset_data + 9, "end": second.offset}[kept]
    path.write_bytes(path.read_bytes()[:place])
    items = find_items([str(path)], clips=False)
    whole, left = items[0], next(item for item in items if "#after" in item.key)
    with fetched(whole) as copy:
        np.testing.assert_array_equal(cc.media.read_image(copy), pixels("a.png"))
    with (
        pytest.raises(InputError, match=r"0\.tar` breaks off at byte \d+: what follows is lost"),
        fetched(left),
    ):
        pass


def test_a_label_of_other_bytes_spoils_no_other_member(photos: Path) -> None:
    with tarfile.open(photos / "1.tar", "w") as archive:
        archive.add(photos / "a.png", "a.png")
        (photos / "a.cls").write_bytes(b"\xff3")
        archive.add(photos / "a.cls", "a.cls")
        archive.add(photos / "a.png", "b.png")
    labels = [item.label for item in find_items([str(photos / "1.tar")], clips=False)]
    assert labels == [r"\xff3", ""]


@pytest.fixture
def shut(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `b` of the photos, which may not be read; root may read what its mode forbids."""
    folder, listed = photos / "b", {name: getattr(os, name) for name in ("listdir", "scandir")}
    for name, real in listed.items():

        def refused(path: Any = ".", real: Callable[[Any], Any] = real) -> Any:
            if Path(os.fsdecode(path)) == folder:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, name, refused)
    return folder


def test_a_folder_that_may_not_be_read_has_a_row(shut: Path, photos: Path) -> None:
    keys = [one.key for one in find_items([str(photos)], clips=False)]
    assert keys == [str(photos / "a.png"), f"{shut}/"]
    (photos / "a.png").unlink()
    with pytest.raises(MediaError, match=r"b/` may not be read; check its permissions"):
        find_items([str(photos)], clips=False)


def test_a_folder_that_may_not_be_read_is_one_line_everywhere(shut: Path) -> None:
    for door in (cc.media.find_images, cc.media.read_clip, cc.data.drives.find_drives):
        with pytest.raises(MediaError, match=r"b` cannot be listed \(Permission denied\); check its"):
            door(shut)


def test_an_empty_name_is_not_the_current_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(MediaError, match="a path is empty; expected a file or a folder"):
        find_items([""], clips=False)


def test_a_path_that_is_no_text_is_refused(photos: Path) -> None:
    pq.write_table(pa.table({"path": [1, 2]}), photos / "list.parquet")
    with pytest.raises(InputError, match=r"`path` of .* is of type int64; expected text"):
        find_items([str(photos / "list.parquet")], clips=False)


def test_what_names_nothing_says_what_to_give(photos: Path) -> None:
    archived(photos)
    for name in NAMES:
        (photos / name).unlink()
    with pytest.raises(MediaError, match=r"names no pictures; .* or give `.*photos/\*\*/\*\.tar`"):
        find_items([str(photos)], clips=False)
    (photos / "arrow/train").mkdir(parents=True)
    (photos / "arrow/dataset_dict.json").write_text("{}")
    (photos / "arrow/train/state.json").write_text("{}")
    with pytest.raises(InputError, match=r"has splits; give one of `.*arrow/train`"):
        find_items([str(photos / "arrow")], clips=False)
    for url, said in (("nothing://photos", "opened"), ("zip://a::none.zip", "opened")):
        with pytest.raises(ChronocamError, match=f"`{url}` cannot be {said}"):
            find_items([url], clips=False)


def test_links_around_a_folder_repeat_nothing(photos: Path) -> None:
    (photos / "b/again").symlink_to(photos)
    (photos / "elsewhere").symlink_to(photos / "b")
    keys = [os.path.relpath(one.key, photos) for one in find_items([str(photos)], clips=False)]
    assert keys == ["a.png", "b/c.JPG", "b/d e.bmp", "elsewhere/c.JPG", "elsewhere/d e.bmp"]
