"""`PATH.pt2`: a network that torch.export saved, unflattened so that its layers can be addressed."""

from __future__ import annotations

from typing import Any
from zipfile import is_zipfile

from chronocam.errors import first_line
from chronocam.layouts.base import channel_axis
from chronocam.media.clips.preprocess import ClipPreprocess
from chronocam.media.preprocess import Preprocess, imagenet
from chronocam.models.specs import PATH, ModelRequest, ModelSource, Parts, need


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    # torch.export.load unpickles sample inputs and constants, evaluates expressions of shapes and generates
    # Python from names, all taken from the file; it has no mode in which it does not.
    request.insist_on_trust(
        "a .pt2 file can run any code while torch.export.load reads it",
        "give its weights as PATH.safetensors@ARCHITECTURE",
    )
    export = need("torch.export", "torch")
    todo = "expected a file that torch.export.save wrote"
    if not is_zipfile(path):
        raise request.error("is not an archive", todo)
    try:
        program = export.load(path)
        return export.unflatten(program), _preprocess(program), None
    except Exception as error:  # another archive, another version, a damaged one
        raise request.error(f"cannot be read ({first_line(error)})", todo) from error


def _preprocess(program: Any) -> Preprocess | ClipPreprocess:
    """Return ImageNet's recipe at the size of the exported input; 224 x 224 where that is free or unknown."""
    names = program.graph_signature.user_inputs
    shape = next(tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name == names[0])
    if len(shape) < 4 or not all(isinstance(size, int) for size in (shape[1], *shape[-2:])):
        return imagenet()
    if len(shape) == 5 and isinstance(shape[2], int):
        channels = channel_axis((1, *shape[1:])) or 1  # the batch may have no size yet
        axes = "channel time" if channels == 1 else "time channel"
        return ClipPreprocess(imagenet(shape[-2], shape[-1], shape[channels]), shape[3 - channels], axes)
    return imagenet(shape[-2], shape[-1], shape[1])


SOURCE = ModelSource("PATH.pt2", rf"({PATH}\.pt2)", _load, about="a network that torch.export saved")
