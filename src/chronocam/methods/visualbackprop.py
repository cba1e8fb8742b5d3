"""VisualBackProp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chronocam.errors import InputError, LayerError
from chronocam.maps.arrays import namespace, relu
from chronocam.maps.resample import resample
from chronocam.maps.spread import spread
from chronocam.methods._base import Maps, Method
from chronocam.types import INPUT, Need, View


@dataclass(kw_only=True, eq=False)
class VisualBackProp(Method):
    """VisualBackProp: where a convolutional network is active at all of its depths; no class, no gradient.

    With Ā_l the mean over the channels of max(A_l, 0) at stage l, and U_l the transposed convolution with
    weights 1, bias 0 and the kernel, stride and padding by which stage l was made of stage l − 1: M_L = Ā_L,
    M_{l−1} = Ā_{l−1} ⊙ U_l M_l, and the map is U_1 M_1, on the input's grid. It is the same for every target:
    a reference that shows what the network could look at, and not why it decided.

    overlap: where windows overlap, `"sum"` adds, as the paper's transposed convolution does, which leaves a
        grid of its own where a stride does not divide its kernel; `"mean"` averages, and leaves none.

    Stages are the last layers on each grid, from the input to `conv_layer` (None: the last layer with a
    grid). In the paper every convolution is a stage; layers that keep the grid are not counted here, which
    makes no difference where each one shrinks it, as in the paper's network. What lies between two stages is
    composed into one window (the widest, where branches meet). Where a network's windows are unknown, maps
    are resampled linearly, and the explanation says so. Negative activations count
    as zero, as after the paper's ReLUs; the paper's scaling to [0, 1] is `Explanation.normalize`.

    Frames that a 2D network sees one by one have a map each; a 3D network's has all its windows in time too.
    Source: Bojarski et al. 2016 (arXiv:1611.05418), section III.

    Example:
    >>> cc.VisualBackProp(model).explain(images).maps.shape
    (2, 1, 32, 32)
    """

    overlap: str = "sum"
    name: ClassVar[str] = "visualbackprop"
    needs: ClassVar[tuple[Need, ...]] = (Need(gradients=False, stages=True),)
    class_agnostic: ClassVar[bool] = True
    maps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.overlap not in ("sum", "mean"):
            raise InputError(f"no overlap `{self.overlap}`; choose sum or mean")
        if self.conv_layer == INPUT or isinstance(self.conv_layer, (list, tuple)):
            raise LayerError(
                "visualbackprop goes from one layer to the input; give the deepest, or leave conv_layer out"
            )
        if self.align == "receptive_field":
            raise InputError(
                'visualbackprop spreads cells over what they see; leave align out, or give "half_pixel"'
            )
        super().__post_init__()

    def maps(self, view: View) -> Maps:
        """Return the map of all stages once per target."""
        *earlier, last = view.captures[0].stages
        xp = namespace(last.activations)
        maps = xp.mean(relu(last.activations), axis=1, keepdims=True)
        # From the deepest stage to the input: spread the map over the stage below, and keep what is active
        # there too. Below the first stage lies the input itself, which has no activations.
        for stage, below in zip([last, *reversed(earlier)], [*reversed(earlier), None], strict=True):
            if stage.windows is None:
                maps = resample(maps, stage.before)
            else:
                maps = spread(maps, stage.before, stage.windows, self.overlap == "mean")
            if below is not None:
                maps = xp.mean(relu(below.activations), axis=1, keepdims=True) * maps
        return xp.broadcast_to(maps, (maps.shape[0], view.targets, *maps.shape[2:]))
