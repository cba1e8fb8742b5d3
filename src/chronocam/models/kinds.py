"""What a model's file is by what it holds: its name may be wrong, and what was fetched may be no model."""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from zipfile import BadZipFile, ZipFile, is_zipfile

from chronocam.errors import few, printable

Fault = tuple[str, str]
"""What is wrong, and what to do."""

TORCH: Final = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".th", ".pkl")
KERAS: Final = (".keras", ".h5", ".hdf5")
FILES: Final = (*TORCH, ".safetensors", ".pt2", ".onnx", ".tflite", *KERAS)
"""What files of models are called."""

_HEAD: Final = 4096
_LEGACY: Final = 0x1950A86A20F9469CFC6C
"""The number that torch.save wrote first, before it wrote archives."""

_ARCHIVES: Final = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
}
_FETCH: Final = "fetch it again, by the address that downloads it"


def fault_of(path: Path) -> Fault | None:
    """Return what is wrong with a file, whatever reads it; None where it is what its name says.

    A file of none of the kinds that are known here is left to what reads files of its name.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})", "check its permissions"
    if not head:
        return "the file is empty", "copy or fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "the file is a pointer of Git LFS, not what it points to", "git lfs pull fetches that"
    start = head.lstrip()[:15].lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "the file is a page of the web (HTML), not a model", _FETCH
    if packed := next((what for magic, what in _ARCHIVES.items() if head.startswith(magic)), None):
        return f"the file is {packed}", "unpack it and give what is in it"
    if head.startswith(b"PK") and not is_zipfile(path):
        return "the file breaks off, as archives do that were not fetched to their end", "fetch it again"
    what, suffixes = _kind(path, head)
    if path.suffix.lower() in suffixes:
        return None
    if suffixes:
        return f"the file is {what}, in spite of its name", f"rename it to {path.stem}{suffixes[0]}"
    if what:
        return f"the file is {what}", "unpack it and give what is in it"
    if path.suffix.lower() in FILES and _is_text(head):
        return f"the file is text (`{printable(head[:40].decode(), 40)}`)", _FETCH
    if path.suffix.lower() in TORCH and head[:1] == b"\x80":
        return (
            "the file is a pickle that torch.save did not write",
            "load it in a python: factory of your own, or save its state_dict() with torch.save",
        )
    return None


def _kind(path: Path, head: bytes) -> tuple[str, Sequence[str]]:
    """Return what a file is, and what such files are called; nothing where it is not known."""
    if head.startswith(b"PK"):
        return _of_archive(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file, as Keras writes them", (".h5", ".hdf5", ".keras")
    if head[4:8] == b"TFL3":
        return "a model of LiteRT", (".tflite",)
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "what safetensors wrote", (".safetensors",)
    if _is_legacy(head):
        return "what torch.save wrote", TORCH
    # So begin other messages of protobuf too, as saved_model.pb.
    named = path.suffix.lower() in FILES or not path.suffix
    if named and head[0] == 8 and head[1:2] < b"\x20" and head[2:3] in b"\x12\x1a\x22\x2a\x32\x3a\x42":
        return "an ONNX model", (".onnx",)
    return "", ()


def _of_archive(path: Path) -> tuple[str, Sequence[str]]:
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged zip archive", ()
    inner = {name.partition("/")[2] or name for name in names}
    if not inner.isdisjoint({"archive_format", "serialized_exported_program.json"}):
        return "what torch.export wrote", (".pt2",)
    if not inner.isdisjoint({"data.pkl", "constants.pkl"}):
        return "what torch.save wrote", TORCH
    if "config.json" in names and not {"metadata.json", "model.weights.h5"}.isdisjoint(names):
        return "what Keras wrote", KERAS
    held = few([f"`{printable(name, 60)}`" for name in names])
    return f"a zip archive that holds {held or 'nothing'}", ()


def _is_legacy(head: bytes) -> bool:
    try:
        return any(argument == _LEGACY for _, argument, _ in islice(pickletools.genops(head), 3))
    except (ValueError, UnicodeError):
        return False


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("ascii")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)
