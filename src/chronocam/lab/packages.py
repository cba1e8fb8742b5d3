"""Files of the packages that the extra `demo` installs, found without importing a package."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from chronocam.errors import ModelError


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
