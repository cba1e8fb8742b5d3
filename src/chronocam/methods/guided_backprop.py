"""Guided backpropagation."""

from typing import ClassVar

from chronocam.methods._base import GradientMethod
from chronocam.types import Need


class GuidedBackprop(GradientMethod):
    """The gradient with ReLUs that pass backward only positive gradients of positive inputs.

    Applies to ReLU and ReLU6, as modules and as functions. It sharpens edges, and is known to depend little
    on the class and on the trained weights (Adebayo et al. 2018, arXiv:1810.03292).
    Source: Springenberg et al. 2015 (arXiv:1412.6806), section 3.4.

    Example:
    >>> cc.GuidedBackprop(model).explain(images, "dog").maps.shape
    (2, 1, 32, 32)
    """

    name: ClassVar[str] = "guidedbackprop"
    needs: ClassVar[tuple[Need, ...]] = (Need(guided=True),)
