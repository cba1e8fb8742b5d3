"""ODAM: elementwise, with gradients smoothed where that is asked for."""

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from nets import Net
from scipy.ndimage import gaussian_filter

import chronocam as cc
from chronocam.errors import InputError


@pytest.mark.parametrize("smooth", [0.0, 0.8])
def test_gradients_are_smoothed_over_the_grid_and_multiplied_by_the_activations(smooth: float) -> None:
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 16, 16)
    seen: list[torch.Tensor] = []
    handle = net.get_submodule("conv2").register_forward_hook(lambda module, args, out: seen.append(out))
    y = net(x)
    handle.remove()
    found = cc.ODAM(net, "conv2", smooth=smooth, signed=True).explain(x, list(map(cc.targets.Class, (0, 2))))
    for k, c in enumerate((0, 2)):
        (g,) = torch.autograd.grad(y[:, c].sum(), seen, retain_graph=True)
        blurred = gaussian_filter(g.numpy(), (0, 0, smooth, smooth), mode="reflect") if smooth else g.numpy()
        hand = (blurred * seen[0].detach().numpy()).sum(1)
        np.testing.assert_allclose(found.maps[:, k], hand, atol=1e-5 * np.abs(hand).max())


def test_smoothing_spreads_the_map_of_a_box_no_further_than_its_activations() -> None:
    plain, smooth = (
        cc.ODAM(Spots(), "body.0", smooth=s).explain(two_spots(), cc.targets.Boxes(top=1)) for s in (0, 1)
    )
    assert plain.maps[0, 0].argmax() == smooth.maps[0, 0].argmax() == 9
    assert plain.maps[0, 0].max() > smooth.maps[0, 0].max() > 0
    assert np.flatnonzero(plain.maps[0, 0]).tolist() == [9]


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(InputError, match="smooth is -1"):
        cc.ODAM(Spots(), smooth=-1)
