"""Saliency."""

from typing import ClassVar

from chronocam.methods._base import GradientMethod


class Saliency(GradientMethod):
    """The gradient's magnitude at the input: M = max over channels of |∂S/∂x|.

    Source: Simonyan et al. 2014 (arXiv:1312.6034), section 3.1.

    Example:
    >>> cc.Saliency(model).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    name: ClassVar[str] = "saliency"
