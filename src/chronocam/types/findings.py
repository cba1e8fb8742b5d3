"""Remarks on an explanation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A remark on an explanation, such as a map that is zero everywhere.

    kind: `"not finite"`, `"zero map"`, `"small gradient"`, `"cancelled"` or `"negative evidence"` for a
        single map; `"default layer"` for the choice of a layer; `"coarse grid"` for a layer of one or two
        rows, columns or slices; `"wide field"` for one whose cells see as much as the whole input; `"note"`
        for all others.
    sample, target: which of the call's samples and the name of its target; None where it concerns all.
    text: the remark in words, complete by itself.

    Example:
    >>> from torch.nn.init import zeros_
    >>> _ = zeros_(model.conv2.weight), zeros_(model.conv2.bias)
    >>> cc.GradCAM(model, "conv2").explain(images[:1], 0).findings[0].kind
    'zero map'
    """

    kind: str
    sample: int | None
    target: str | None
    text: str

    def __str__(self) -> str:
        return self.text


def note(text: str) -> Finding:
    """Return a finding that concerns all samples and targets."""
    return Finding("note", None, None, text)
