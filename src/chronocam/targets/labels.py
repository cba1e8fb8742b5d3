"""Find a class by the name that a person gives it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from chronocam.errors import InputError, TargetError, suggest


def names_of(labels: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    """Return class names as a tuple; a dict has them by index, which JSON makes a text.

    Raises InputError for one name alone, and for what has no order.
    """
    if isinstance(labels, Mapping):
        by_index = {int(key) if str(key).isdecimal() else key: name for key, name in labels.items()}
        if {*by_index} != {*range(len(labels))}:
            raise InputError("labels= is a dict whose keys are not 0, 1, 2, …; give a list of the names")
        return tuple(str(by_index[i]) for i in range(len(by_index)))
    if isinstance(labels, (str, set, frozenset)) or not hasattr(labels, "__iter__"):
        raise InputError(
            f"labels= is a {type(labels).__name__}; expected a list of names, one per class, such as "
            "Path(…).read_text().splitlines()"
        )
    return tuple(map(str, labels))


def find_label(labels: Sequence[str], text: str) -> int:
    """Return the index of the one label that `text` names.

    Tried in this order: the very label; the same in other case (so from here on); one of its comma-separated
    synonyms; `text` as whole words inside a label ("retriever"); a synonym as whole words inside `text`
    ("tabby cat" finds "tabby"). The first of these that fits anything decides. Raises TargetError, with the
    candidates, where it fits several labels or where none fits.
    """
    rules: tuple[Callable[[str], bool], ...] = (
        lambda label: label == text,
        lambda label: label.strip().casefold() == text.strip().casefold(),
        lambda label: any(_words(name) == _words(text) != "" for name in label.split(",")),
        lambda label: _holds(label, text),
        lambda label: any(_holds(text, name) for name in label.split(",")),
    )
    # From strict to lenient: a rule that fits several labels raises instead of passing on, since a more
    # lenient one would only fit more.
    for rule in rules:
        hits = [index for index, label in enumerate(labels) if rule(label)]
        if hits:
            return _only(hits, labels, text)
    raise TargetError(_unknown(labels, text))


def _words(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _holds(text: str, part: str) -> bool:
    """Return whether the words of `part` stand side by side in `text`."""
    return _words(part) != "" and f" {_words(part)} " in f" {_words(text)} "


def _only(hits: list[int], labels: Sequence[str], text: str) -> int:
    if len(hits) == 1:
        return hits[0]
    shown = ", ".join(f"{index} `{labels[index]}`" for index in hits[:8])
    more = f" and {len(hits) - 8} more" if len(hits) > 8 else ""
    raise TargetError(
        f"`{text}` names {len(hits)} classes: {shown}{more}; give the index of the one you mean"
    )


def _unknown(labels: Sequence[str], text: str) -> str:
    names = [name.strip() for label in labels for name in label.split(",")]
    close = suggest(text, names)
    expected = (
        f"expected an index below {len(labels)} or a label such as `{names[0]}`"
        if names
        else "there are none"
    )
    return f"no label `{text}`{close or f'; {expected}'}"
