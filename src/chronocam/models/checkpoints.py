"""What torch.save wrote, read without running code: tensors and plain containers are themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeGuard, cast
from zipfile import BadZipFile, ZipFile, is_zipfile

from chronocam.errors import first_line, printable
from chronocam.media.files import is_file
from chronocam.models.archives import is_plain
from chronocam.models.kinds import TORCH
from chronocam.models.specs import ModelRequest, need

Weights: TypeAlias = Mapping[str, Any]

SUFFIXES: Final = "|".join(
    ("safetensors", *(suffix[1:] for suffix in TORCH), r"(?:safetensors|bin)\.index\.json")
)
"""How files of weights are called; Lightning writes .ckpt, old scripts .pth.tar, Hugging Face an index."""

INDEX: Final = ".index.json"

_WRAPPERS: Final = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params")
_UNKNOWN: Final = re.compile(r"GLOBAL (\S+) was not an allowed global")
_MOST: Final = 200  # classes of one file


class Inert:
    """Stands for an object that is not built: its class, by name, was not allowed to run."""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read(path: Path, request: ModelRequest) -> object:
    """Return what a file of torch.save holds, an `Inert` in the place of every object that needs code.

    Raises ModelError for a file that is damaged, holds Python lists or dicts of a class of their own, or
    names what PyTorch never unpickles.
    """
    torch = need("torch", "torch")
    stubs: list[tuple[type, str]] = []
    # A file that is mapped is not read anew for every class that turns up in it.
    mapped = is_plain(path, request) or None
    while True:
        try:
            with torch.serialization.safe_globals(stubs):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # a damaged file, or a pickle that wants to run code
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or len(stubs) == _MOST:
                problem = f"cannot be read without running code ({_reason(error)})"
                todo = (
                    "save its state_dict() alone, or pass trust=True (--trust) if you know who made the file"
                )
                raise request.error(problem, todo) from error
            # PyTorch's messages leave out `builtins.`, which its list of what is allowed has.
            name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
            stubs.append((_stub(name), name))


def _reason(error: Exception) -> str:
    """Return the sentence that says what is wrong; PyTorch puts it below a paragraph about `weights_only`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    about = [line for line in lines if "GLOBAL" in line or line.startswith("Can only")]
    return about[0] if about else first_line(error)


def _stub(name: str) -> type:
    module, _, own = name.rpartition(".")
    return type(printable(own), (Inert,), {"__module__": module})


def safe_weights(path: Path, request: ModelRequest) -> Weights:
    """Return what a .safetensors file holds. Raises ModelError for a damaged one."""
    try:
        return cast("Weights", need("safetensors.torch", "torch").load_file(path))
    except Exception as error:  # a damaged file
        raise request.error(
            f"cannot be read as weights ({first_line(error)})", "expected a .safetensors file"
        ) from error


def whole_weights(path: Path, request: ModelRequest) -> Weights:
    """Return the weights in the files that an index names, all of which lie beside it.

    Raises ModelError for an index that is damaged or names other files, and for what `read` refuses.
    """
    try:
        named = dict.fromkeys(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise request.error(
            f"cannot be read ({first_line(error)})", "expected an index with a weight_map"
        ) from error
    weights: dict[str, Any] = {}
    for name in named:
        part = path.parent / str(name)
        if not isinstance(name, str) or Path(name).name != name or not is_file(part):
            raise request.error(
                f"names the file `{name}`, which is not beside it", "fetch all files of the model"
            )
        found = (
            safe_weights(part, request) if part.suffix == ".safetensors" else weights_in(read(part, request))
        )
        weights |= found or {}
    return weights


def weights_in(content: object) -> Weights | None:
    """Return the weights in a checkpoint: itself, or what is under a usual key or is alone in being weights.

    None where there are none, or several without a usual key.
    """
    if _are_weights(content):
        return content
    if not isinstance(content, Mapping):
        return None
    for key in _WRAPPERS:
        if (found := weights_in(content.get(key))) is not None:
            return found
    alone = [value for value in content.values() if _are_weights(value)]
    return alone[0] if len(alone) == 1 else None


def _are_weights(content: object) -> TypeGuard[Weights]:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(key, str) and hasattr(value, "shape") for key, value in content.items())
    )


def described(content: object) -> str:
    """Return what a file holds that is not weights, in a few words."""
    if isinstance(content, Mapping):
        keys = ", ".join(f"`{key}` ({_kind(value)})" for key, value in list(content.items())[:5])
        return f"a dict with {keys}" if keys else "an empty dict"
    return _kind(content)


def wanted_instead(content: object, path: Path) -> str:
    """Return what to do with a file that holds no weights, or several without saying which are meant."""
    if isinstance(content, Mapping):
        several = [key for key, value in content.items() if _are_weights(value)]
        if several:
            only = f"torch.save(torch.load({str(path)!r}, weights_only=True)[{several[0]!r}], 'one.pth')"
            return f"save those that are meant: {only}"
        if any("_packed_params" in str(key) for key in content):
            return "these are quantised, and have no gradients: give the weights they were made from"
        if {"state", "param_groups"} <= content.keys():
            return "that is an optimizer's state: give the state_dict() of the model"
    return "expected a dict of tensors, or a checkpoint with one as `state_dict` or `model`"


def _kind(content: object) -> str:
    kind = type(content)
    return (
        f"a pickled {kind.__module__}.{kind.__name__}" if isinstance(content, Inert) else f"a {kind.__name__}"
    )


def is_scripted(path: Path) -> bool:
    """Say whether a file is what torch.jit.save wrote: an archive with code beside the tensors."""
    if not is_zipfile(path):
        return False
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError):
        return False
    return any(re.fullmatch(r"[^/]+/constants\.pkl", name) for name in names) and any(
        re.match(r"[^/]+/code/", name) for name in names
    )


def fitted(own: Weights, weights: Weights) -> Weights:
    """Return weights under the names of the network that they are put into.

    Wrappers put their own name before those of a network's weights: `module.`, `model.`, `net.`. The part
    before a dot is left out, as often as it takes, where more names then are the network's; what lies
    beside that part, as a loss with weights of its own, is left out with it.
    """

    def known(prefix: str) -> int:
        return sum(key.startswith(prefix) and key[len(prefix) :] in own for key in weights)

    best = max(_prefixes(weights), key=known)
    if not best or 2 * known(best) <= max(len(own), 2 * known("")):
        return weights
    return {key[len(best) :]: value for key, value in weights.items() if key.startswith(best)}


def _prefixes(weights: Weights) -> Iterator[str]:
    found = {"": None}
    for key in weights:
        parts = key.split(".")
        found.update(dict.fromkeys(".".join(parts[:n]) + "." for n in range(1, min(len(parts), 5))))
    yield from found
