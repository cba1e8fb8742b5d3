"""Files that appear only once they are whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from chronocam.errors import MediaError


def replace_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Call `write` with a temporary path beside `path`, of the same suffix, then rename it to `path`.

    Raises MediaError where the folder cannot be written; on any failure nothing is left behind.
    """
    temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        return temporary.replace(path)
    except OSError as error:
        raise MediaError(f"cannot write `{path}`: {error.strerror or error}; choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
