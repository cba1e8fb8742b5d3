"""What backward passes from scores begin with, and what of their gradients is each sample's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chronocam.engines.torch.tensors import hessian_product, vjp
from chronocam.errors import ModelError


class Cotangents:
    """The backward passes from scores `(batch, target)`, one for each target.

    couples: whether a sample's score depends on the others.
    """

    def __init__(self, scores: Tensor, couples: bool) -> None:
        self.scores = scores
        self.couples = couples

    def columns(self) -> Tensor:
        """Return a cotangent per backward pass: one-hot over targets, and over samples where they couple."""
        # Samples are independent, so one backward pass of a target serves the whole batch: column k is ones
        # at target k. Where BatchNorm mixes them, each sample needs a pass of its own.
        batch, targets = self.scores.shape
        eye = torch.eye(targets, dtype=self.scores.dtype, device=self.scores.device)
        if not self.couples:
            return eye[:, None, :].expand(targets, batch, targets)
        own = torch.eye(batch, dtype=eye.dtype, device=eye.device)
        return (eye[:, None, None, :] * own[None, :, :, None]).reshape(targets * batch, batch, targets)

    def own(self, gradients: Tensor) -> Tensor:
        """Where samples couple, keep of every sample's gradient the part at its own activations."""
        if not self.couples:
            return gradients
        batch, targets = self.scores.shape
        if gradients.shape[1] != batch:
            raise ModelError(
                f"BatchNorm in training mode mixes samples; a layer returns {tuple(gradients.shape[1:])}, "
                f"which is not one row for each of {batch} samples; call model.eval() first"
            )
        split = gradients.reshape(targets, batch, *gradients.shape[1:])
        return torch.stack([split[:, i, i] for i in range(batch)], dim=1)

    def gradients(self, tensors: Sequence[Tensor], last: bool = False) -> list[Tensor | None]:
        """Return ∂score/∂tensor for every target, `(target, *shape)`; None where nothing connects.

        last: whether nothing is differentiated after that.
        """
        pulled = vjp(self.scores, tensors, self.columns(), keep=not last) if tensors else []
        return [None if g is None else self.own(g) for g in pulled]

    def of_some(self, columns: list[int], tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """Return ∂score/∂tensor for every target, zeros but for some; only what leads to the tensors runs."""
        if not columns:
            return [None] * len(tensors)
        some = vjp(self.scores, tensors, self.columns()[columns])
        placed = [None if g is None else g.new_zeros(self.scores.shape[1], *g.shape[1:]) for g in some]
        for whole, part in zip(placed, some, strict=True):
            if whole is not None and part is not None:
                whole[columns] = part
        return placed

    def curvature(self, tensor: Tensor) -> Tensor:
        """Return the Hessian of every score times a tensor, `(target, *shape)`."""
        return self.own(hessian_product(self.scores, tensor, self.columns()))
