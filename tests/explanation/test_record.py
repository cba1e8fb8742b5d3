"""What an Explanation can do."""

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from explained import RNG, blob, explanation
from helpers import one_line

import chronocam as cc
from chronocam.errors import InputError
from chronocam.explanation import concatenate
from chronocam.maps import arrays
from chronocam.types import TargetInfo
from chronocam.types.findings import note


@pytest.mark.parametrize(
    ("grid", "dims"),
    [((5,), ("width",)), ((3, 4), ("height", "width")), ((2, 3, 4), ("time", "height", "width"))],
)
def test_dims_length_and_words(grid: tuple[int, ...], dims: tuple[str, ...]) -> None:
    e = explanation(RNG.random((2, 3, *grid)))
    assert e.dims == ("batch", "target", *dims)
    assert len(e) == 2
    assert "gradcam at layer4" in repr(e)
    assert "2 samples, 3 targets" in repr(e)
    assert " × ".join(map(str, grid)) in repr(e)


def test_an_explanation_is_frozen() -> None:
    e = explanation(blob())
    for field in fields(e):
        with pytest.raises(FrozenInstanceError):
            setattr(e, field.name, None)


def test_upsampling_equals_interpolation_within_the_raw_range() -> None:
    e = explanation(RNG.normal(size=(2, 2, 3, 5)))
    assert e.upsample().shape == (2, 2, 12, 20)
    np.testing.assert_array_equal(e.upsample(mode="nearest"), e.maps.repeat(4, axis=2).repeat(4, axis=3))
    np.testing.assert_array_equal(e.upsample(), e.upsample(mode="cubic"))
    np.testing.assert_array_equal(e.upsample(size=(3, 5), mode="linear"), e.maps)
    assert np.abs(e.upsample(mode="linear") - e.upsample(mode="cubic")).max() > 0.01
    assert e.upsample((7, 9)).shape == (2, 2, 7, 9)
    torch_linear = torch.nn.functional.interpolate(torch.from_numpy(e.maps), (12, 20), mode="bilinear")
    np.testing.assert_allclose(e.upsample(mode="linear"), torch_linear, atol=1e-5)
    low, high = e.maps.min((2, 3), keepdims=True), e.maps.max((2, 3), keepdims=True)
    assert (e.upsample() >= low).all()
    assert (e.upsample() <= high).all()
    clip = explanation(RNG.random((1, 1, 2, 3, 4)))
    np.testing.assert_array_equal(clip.upsample(), clip.upsample(mode="linear"))
    for wrong in ((4,), (4, 5, 6)):
        with pytest.raises(InputError) as error:
            e.upsample(wrong)
        one_line(error, str(wrong))


def test_upsample_obeys_the_centres_of_the_cells() -> None:
    e = explanation(blob(at=(1, 2)), centers=((0.0, 4.0, 8.0, 12.0), tuple(4.0 * i for i in range(6))))
    peak = e.upsample(mode="linear")[0, 0]
    assert np.unravel_index(peak.argmax(), peak.shape) == (4, 8)
    doubled = e.upsample((32, 48), mode="linear")[0, 0]
    np.testing.assert_allclose(doubled[8], doubled[9], rtol=1e-5)  # the cell's centre lies between them
    np.testing.assert_allclose(doubled[:, 16], doubled[:, 17], rtol=1e-5)
    assert doubled[8:10, 16:18].min() == doubled.max() > 1.5
    assert e.upsample(mode="linear").argmax() != replace(e, centers=None).upsample(mode="linear").argmax()


def test_each_scope_of_normalize_shares_its_limits() -> None:
    maps = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    e = explanation(maps)
    low, high = maps.min((1, 2, 3), keepdims=True), maps.max((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(e.normalize(), (maps - low) / (high - low), atol=1e-6)
    np.testing.assert_array_equal(e.normalize("sample"), e.normalize())
    np.testing.assert_allclose(
        e.normalize("batch"), (maps - maps.min()) / (maps.max() - maps.min()), atol=1e-6
    )
    np.testing.assert_allclose(e.normalize((-1.0, 3.0)), ((maps + 1) / 4).clip(0, 1), atol=1e-6)
    assert not explanation(np.zeros((1, 1, 2, 2))).normalize().any()
    clip = RNG.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    low, high = clip.min((1, 3, 4), keepdims=True), clip.max((1, 3, 4), keepdims=True)
    np.testing.assert_allclose(explanation(clip).normalize("frame"), (clip - low) / (high - low), atol=1e-6)
    for scope, words in (("frame", "(batch, target, time, height, width)"), ((1.0, 1.0), "low < high")):
        with pytest.raises(InputError) as error:
            e.normalize(scope)
        one_line(error, words)
    np.testing.assert_array_equal(e.maps, maps)


def test_boxes_hold_the_regions_above_the_threshold() -> None:
    maps = np.concatenate([blob(target=2, at=(1, 2)), np.zeros((1, 2, 4, 6), np.float32)])
    maps[0, 1, 3, 5] = 1.9
    e = explanation(maps, input_size=(16, 24))
    found = e.boxes(threshold=0.9)
    assert found[1] == [[], []]
    ((box,), (largest,)) = found[0]
    mask = e.upsample()[0, 0] >= 0.9 * 2
    rows, columns = np.nonzero(mask)
    assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert 8 <= box[0] < box[2] <= 12
    assert 4 <= box[1] < box[3] <= 8
    every = e.boxes(threshold=0.5, largest=False)[0][1]
    assert len(every) == 2
    assert largest in e.boxes(threshold=0.9, largest=False)[0][1]
    whole = e.boxes(threshold=0.15)[0][0][0]
    assert whole[0] < box[0]
    assert whole[3] > box[3]
    for wrong in (0, 1.5):
        with pytest.raises(InputError, match="threshold"):
            e.boxes(threshold=float(wrong))


def test_an_array_of_one_target_is_upsampled_without_its_axis() -> None:
    one, two = explanation(RNG.random((2, 1, 3, 4))), explanation(RNG.random((2, 2, 3, 4)))
    np.testing.assert_array_equal(np.asarray(one), one.upsample()[:, 0])
    np.testing.assert_array_equal(np.asarray(two), two.upsample())
    assert np.asarray(one).shape == (2, 12, 16)
    assert np.asarray(one).dtype == np.float32
    assert np.asarray(one, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.array(one, copy=True), one.upsample()[:, 0])
    assert float(np.max(one)) == one.upsample().max()


def test_xarray_names_axes_and_places() -> None:
    pytest.importorskip("xarray")
    e = explanation(RNG.random((2, 1, 2, 3, 4)), centers=((0.0, 8.0), (0.0, 4.0, 8.0), (0.0, 4.0, 8.0, 12.0)))
    array = e.to_xarray()
    assert array.dims == e.dims
    np.testing.assert_array_equal(array.values, e.maps)
    assert array.coords["time"].values.tolist() == [0.0, 8.0]
    assert array.coords["width"].values.tolist() == [0.0, 4.0, 8.0, 12.0]
    assert (array.attrs["method"], array.attrs["layer"], array.attrs["input_size"]) == (
        "gradcam",
        "layer4",
        (8, 12, 16),
    )
    assert float(array.sel(time=8.0, height=4.0, width=0.0)[0, 0]) == e.maps[0, 0, 1, 1, 0]


def test_rare_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        cc.Explanation(blob(), np.ones((1, 1)), ((TargetInfo("a"),),), "gradcam", "conv", (8, 8), None)


# Joining


def test_explanations_of_one_shape_are_joined_and_findings_kept_once() -> None:
    a, b = (
        explanation(blob(), findings=(note("x"), note("y"))),
        explanation(blob(batch=2) * 3, findings=(note("y"), note("z"))),
    )
    joined = concatenate([a, b])
    np.testing.assert_array_equal(joined.maps, np.concatenate([a.maps, b.maps]))
    np.testing.assert_array_equal(joined.scores, np.concatenate([a.scores, b.scores]))
    assert joined.targets == a.targets + b.targets
    assert joined.diagnostics == ("x", "y", "z")
    for other in (
        explanation(np.zeros((1, 1, 4, 5))),
        explanation(blob(target=2)),
        replace(a, input_size=(8, 8)),
    ):
        with pytest.raises(InputError) as error:
            concatenate([a, other])
        one_line(error, "explain_batches")


def test_cells_say_what_they_see_where_the_layer_was_chosen() -> None:
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    )
    x = torch.rand(1, 1, 16, 16)
    # Two convolutions of 3 × 3 around a pooling of 2 × 2: cell i sees from 2i − 3 to 2i + 4.
    assert cc.GradCAM(net).explain(x, 0).windows == (cc.types.Window(2, -3, 4),) * 2
    assert cc.Saliency(net).explain(x, 0).windows is None


def test_maps_come_as_a_tensor_that_shares_their_memory() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
    x = torch.rand(3, 3, 6, 6)
    one = cc.GradCAM(net, "0").explain(x, 0)
    tensor = one.as_tensor()
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor, one.maps)
    tensor += 1
    np.testing.assert_array_equal(tensor, one.maps)
    first = replace(one, maps=one.maps[:1])
    assert tuple(first.as_tensor().shape) == (1, 1, 4, 4)
    joined = cc.GradCAM(net, "0", batch_size=1).explain(x, 0)
    np.testing.assert_array_equal(joined.as_tensor(), joined.maps)
    assert len(joined.as_tensor()) == 3


def test_maps_of_no_framework_are_their_own_tensor(tmp_path: Path) -> None:
    e = explanation(blob())
    assert e.as_tensor() is e.maps
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
    saved = cc.GradCAM(net, "0").explain(torch.rand(1, 3, 6, 6), 0).save(tmp_path / "maps.npz")
    assert isinstance(cc.load(saved).as_tensor(), np.ndarray)


class OnDevice:
    """What stands for an array elsewhere: NumPy cannot share its memory."""

    def on_host(self, array: object) -> bool:
        return False


def test_maps_on_a_device_are_kept_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made, host = torch.zeros(2, 1, 3, 3), np.zeros((2, 1, 3, 3), np.float32)
    monkeypatch.setattr(arrays, "library", lambda array: OnDevice())
    assert arrays.Origin(made, host).of(host) is made
