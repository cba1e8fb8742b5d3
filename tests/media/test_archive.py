"""Archives of arrays: read as NumPy wrote them, and refused in one line where a claim is not kept."""

import io
import json
import tracemalloc
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import one_line

from chronocam.errors import MediaError
from chronocam.jsonable import LONGEST, JsonRecord
from chronocam.media.archive import Sought, open_archive, write_archive

SOUGHT = Sought("a thing", "one of ours")


@dataclass(frozen=True, kw_only=True)
class Header(JsonRecord):
    format: str = "thing 1"
    name: str = "猫 \udcff"


def npy(text: str, data: bytes = b"") -> bytes:
    """Return an array whose own header is this text."""
    head = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head + data


def about(descr: str = "<f4", shape: str = "(2,)", order: str = "False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def read(path: Path, limit: int) -> tuple[Header, dict[str, np.ndarray]]:
    with open_archive(path, SOUGHT, limit) as file:
        return file.header(Header, "thing 1"), {name: file[name] for name in file.names}


def refused(path: Path, *words: str, limit: int = 2**20) -> None:
    with pytest.raises(MediaError) as error:
        read(path, limit)
    one_line(error, str(path), "one of ours", *words)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "|u1", "<i8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str, order: Any) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype, order=order)
    write_archive(tmp_path / "a.npz", Header(), {"a": values, "b": np.float32(3)})
    with open_archive(tmp_path / "a.npz", SOUGHT) as file:
        assert file.header(Header, "thing 1") == Header()
        assert file.names == ("a", "b")
        np.testing.assert_array_equal(file["a"], values)
        assert file["a"].dtype == np.dtype(dtype).newbyteorder("=")
        assert file["a"].flags.writeable
        assert file["b"].shape == ()


BAD = {
    "objects": (saved(np.array([{}], dtype=object)), "not an array of numbers or text"),
    "no array": (b"x" * 200, "not an array of numbers or text"),
    "nothing": (b"", "not an array of numbers or text"),
    "code": (npy("__import__('os').abort()"), "not an array of numbers or text"),
    "deep": (npy("(" * 4000), "not an array of numbers or text"),
    "record": (saved(np.zeros(2, [("a", "f4")])), "not an array of numbers or text"),
    "text": (saved("maps"), "holds no numbers"),
    "empty": (saved(np.zeros((2, 0))), "holds no numbers"),
    "odd width": (npy(about("<f3"), bytes(6)), "numbers of 3 bytes"),
    "too much": (npy(about(shape=f"({10**17}, {10**17})"), bytes(8)), "has 8 bytes, which are not"),
    "too little": (npy(about(shape="(1,)"), bytes(8)), "has 8 bytes, which are not (1,) of 4"),
    "many axes": (npy(about(shape=f"({'1,' * 40})"), bytes(4)), "not an array of numbers or text"),
    "negative": (npy(about(shape="(-2,)"), bytes(8)), "not an array of numbers or text"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_array_that_is_not_what_it_says_is_refused(tmp_path: Path, name: str) -> None:
    data, words = BAD[name]
    header = saved(json.dumps(Header().to_json()))
    refused(archive(tmp_path / "a.npz", header=header, maps=data), "`maps`", words)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (saved("{"), "its header is not readable as JSON"),
        (saved("[" * 100_000), "nested too deep"),
        (saved("1" * 5000), "not readable as JSON"),
        (saved("[1]"), "its header is not an object"),
        (saved('{"format": "thing 2"}'), "of another format"),
        (saved('{"format": "thing 1", "name": 3}'), "`name` of its header is 3; expected text"),
        (saved('{"format": "thing 1", "more": 3}'), "its header has an unknown `more`"),
        (saved(["{}"]), "`header` is not text"),
        (saved(3.0), "`header` is not text"),
        (npy(about("<U1", "()"), b"\xff\xff\xff\xff"), "`header` is not text"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes, words: str) -> None:
    refused(archive(tmp_path / "a.npz", header=header), words)


def test_a_file_that_claims_too_much_takes_no_memory(tmp_path: Path) -> None:
    bomb = archive(
        tmp_path / "a.npz", header=saved("{}"), maps=saved(np.zeros((1, 1, 2000, 2000), np.float32))
    )
    assert bomb.stat().st_size < 20_000
    tracemalloc.start()
    refused(bomb, "its arrays would take 16,000,", "more than 1,048,576")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_who_saves_more_than_is_read_unasked_hears_how_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npz"
    monkeypatch.setattr("chronocam.media.archive.LARGEST", 4000)
    with pytest.warns(UserWarning, match=r"limit=[\d_]+\)") as caught:
        write_archive(path, Header(), {"a": np.zeros(1000, np.float32)})
    limit = int(str(caught[0].message).split("limit=")[1].rstrip(")"))
    with open_archive(path, SOUGHT, limit) as archive:
        assert len(archive["a"]) == 1000
    with pytest.raises(MediaError, match="limit="), open_archive(path, SOUGHT, limit - 1):
        pass


def test_text_that_is_too_long_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chronocam.jsonable.LONGEST", 10)
    refused(archive(tmp_path / "a.npz", header=saved('{"format": "thing 1"}')), "more than 10")
    assert LONGEST > 10**7


def test_archives_that_numpy_does_not_write_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", header=saved("{}"))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("notes.txt", "x")
    refused(path, "its members are not arrays")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("header.npy", saved("{}"))
    refused(path, "its members are not arrays")
    whole = archive(path, header=saved("{}")).read_bytes()
    encrypted = whole.index(b"PK\1\2") + 8
    path.write_bytes(whole[:encrypted] + b"\1" + whole[encrypted + 1 :])
    refused(path, "its members are not arrays")
    refused(archive(path, maps=saved(1.0)), "it has no `header`")


def test_every_damaged_byte_is_one_line_or_changes_nothing(tmp_path: Path) -> None:
    path, values = tmp_path / "a.npz", np.arange(6, dtype=np.float32)
    write_archive(path, Header(name="a"), {"a": values})
    whole = path.read_bytes()
    refusals = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            header, arrays = read(path, 2**20)
        except MediaError:
            refusals += 1
        else:
            assert header.name == "a"
            # A byte of its name makes it another array, which formats refuse.
            np.testing.assert_array_equal(arrays.get("a", values), values)
    assert refusals > len(whole) / 2


@pytest.mark.parametrize("name", ["none.npz", ".", "x" * 300, "nul\0"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="no file"):
        read(tmp_path / name, 100)
