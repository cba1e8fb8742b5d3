"""Eigen-CAM."""

from typing import ClassVar

from chronocam.maps.arrays import namespace
from chronocam.maps.combine import per_target, principal_component
from chronocam.methods._base import CAMMethod, Maps
from chronocam.types import Need, View


class EigenCAM(CAMMethod):
    """Eigen-CAM: the activations' first principal component over positions; the same for every target.

    Needs no gradient. Activations are centred over positions, and the component is oriented to agree with
    their sum over channels, since an eigenvector's sign is arbitrary.
    Source: Muhammad and Yeasin 2020 (arXiv:2008.00299), eq. 4; the paper does not centre.

    Example:
    >>> maps = cc.EigenCAM(model, "conv2").explain(images, cc.targets.Predicted(2)).maps
    >>> maps.shape, bool((maps[:, 0] == maps[:, 1]).all())
    ((2, 2, 8, 8), True)
    """

    name: ClassVar[str] = "eigencam"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False),)
    class_agnostic: ClassVar[bool] = True

    def maps(self, view: View) -> Maps:
        """Return the component once per target."""
        component = principal_component(per_target(view.captures[0].activations))
        shape = (component.shape[0], view.targets, *component.shape[2:])
        return namespace(component).broadcast_to(component, shape)
