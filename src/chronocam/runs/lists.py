"""What there is to choose from: specs of models, and methods."""

from __future__ import annotations

from dataclasses import dataclass

from chronocam.errors import InputError
from chronocam.jsonable import JsonRecord


@dataclass(frozen=True)
class SourceRow(JsonRecord):
    """A source of models.

    form: of its specs.
    about: what it is.
    specs: those that are at hand without a library being asked.
    """

    form: str
    about: str
    specs: tuple[str, ...]


@dataclass(frozen=True)
class MethodRow(JsonRecord):
    """A method.

    explains: maps or features.
    about: its formula or what it does, in a sentence.
    """

    name: str
    explains: str
    about: str


def source_rows() -> list[SourceRow]:
    """Return every source of models, with the specs of the short lists."""
    from chronocam.models.specs import sources

    return [SourceRow(one.form, one.about, tuple(one.specs() if one.names else ())) for one in sources()]


def bundled() -> list[str]:
    """Return the specs of networks that are installed."""
    return [spec for row in source_rows() for spec in row.specs]


def specs_with(text: str) -> list[str]:
    """Return every spec with a text in it, of all libraries that are installed.

    Raises InputError where there is none.
    """
    from chronocam.models.specs import sources

    found = [spec for source in sources() for spec in source.specs() if text.lower() in spec.lower()]
    if not found:
        raise InputError(f"no spec has `{text}` in it; `chronocam models` shows where models come from")
    return found


def method_rows() -> list[MethodRow]:
    """Return every method of maps, then those of features, by name."""
    from chronocam.methods import METHODS
    from chronocam.sequence import METHODS as SEQUENCE_METHODS

    kinds = {"maps": METHODS, "features": SEQUENCE_METHODS}
    return [
        MethodRow(name, kind, (methods[name].__doc__ or "").strip().partition("\n")[0])
        for kind, methods in kinds.items()
        for name in sorted(methods)
    ]
