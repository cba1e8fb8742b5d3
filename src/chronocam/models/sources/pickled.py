"""`PATH.pt` or `PATH.pth` alone: a whole network, pickled."""

from __future__ import annotations

from chronocam.errors import first_line
from chronocam.media.preprocess import imagenet
from chronocam.models.specs import PATH, Model, ModelRequest, ModelSource, Parts, need


def _load(request: ModelRequest) -> Parts:
    path = request.file()
    request.insist_on_trust(
        "a pickled network can run any code while it is loaded",
        f"give its weights an architecture ({request.text}@ARCHITECTURE)",
    )
    torch = need("torch", "torch")
    try:
        model: Model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a damaged file, or a class that is not importable here
        raise request.error(f"cannot be unpickled ({first_line(error)})", "expected a network") from error
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        problem = f"holds a {type(model).__name__}, expected a network"
        raise request.error(problem, f"give weights an architecture: {request.text}@ARCHITECTURE")
    return model, imagenet(), None


SOURCE = ModelSource(
    "PATH.pt|.pth", rf"({PATH}\.(?:pt|pth))", _load, about="a pickled network, which runs code: needs --trust"
)
