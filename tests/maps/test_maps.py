"""The maths on maps: resampling, scaling, fusing and regions, against PyTorch and by hand."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from math import tanh
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from chronocam.errors import InputError
from chronocam.maps.arrays import to_numpy, widen
from chronocam.maps.combine import magnitude_of_products, principal_component, weighted_sum
from chronocam.maps.fuse import fuse
from chronocam.maps.normalize import normalize
from chronocam.maps.regions import boxes
from chronocam.maps.resample import axis_matrix, half_pixel_centers, resample

MODES = ("nearest", "linear", "cubic")
ARRAYS: list[Callable[[np.ndarray], Any]] = [np.asarray, torch.from_numpy]
SIZES = [
    ((5,), (13,)),
    ((7,), (3,)),
    ((1,), (4,)),
    ((4,), (4,)),
    ((3, 5), (7, 11)),
    ((7, 7), (97, 224)),
    ((5, 4), (3, 9)),
    ((1, 3), (5, 6)),
    ((2, 3, 5), (7, 8, 9)),
    ((4, 7, 7), (16, 29, 28)),
    ((3, 1, 2), (2, 5, 3)),
]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def clipped(result: np.ndarray, raw: np.ndarray) -> np.ndarray:
    out = result.copy()
    for at in np.ndindex(*raw.shape[:2]):
        out[at] = np.clip(out[at], raw[at].min(), raw[at].max())
    return out


def interpolated(maps: np.ndarray, size: Sequence[int], mode: str) -> np.ndarray:
    """The same by PyTorch, which has no cubic but on two axes: the others are done one at a time."""
    tensor = torch.from_numpy(maps)
    if mode == "nearest":
        return F.interpolate(tensor, tuple(size), mode="nearest-exact").numpy()
    if mode == "linear":
        name = ("linear", "bilinear", "trilinear")[len(size) - 1]
        return F.interpolate(tensor, tuple(size), mode=name, align_corners=False).numpy()
    if len(size) == 2:
        found = F.interpolate(tensor, tuple(size), mode="bicubic", align_corners=False).numpy()
        return clipped(found, maps)
    for axis, pixels in enumerate(size, start=2):
        rows = tensor.movedim(axis, -1)
        flat = rows.reshape(1, 1, -1, rows.shape[-1])
        flat = F.interpolate(flat, (flat.shape[2], pixels), mode="bicubic", align_corners=False)
        tensor = flat.reshape(*rows.shape[:-1], pixels).movedim(-1, axis)
    return clipped(tensor.numpy(), maps)


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("grid", "size"), SIZES, ids=str)
def test_resample_equals_interpolate(
    grid: tuple[int, ...], size: tuple[int, ...], mode: Any, dtype: Any, array: Callable[..., Any]
) -> None:
    maps = drawn(2, 3, *grid).astype(dtype)
    before = maps.copy()
    found = resample(array(maps), size, mode)
    assert type(found) is type(array(maps))
    assert found.dtype == array(maps).dtype
    tolerance = 1e-6 if dtype is np.float32 else 1e-12
    expected = interpolated(maps.astype(np.float64), size, mode)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance * np.abs(maps).max())
    assert np.array_equal(maps, before)


@pytest.mark.parametrize("cells", range(1, 16))
def test_nearest_equals_nearest_exact_at_every_size(cells: int) -> None:
    """Ties, where a pixel lies midway between two cells, must not fall victim to rounding."""
    row = np.arange(cells, dtype=np.float64)[None, None]
    for size in range(1, 65):
        assert np.array_equal(resample(row, (size,), "nearest"), interpolated(row, (size,), "nearest"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_float32(half: torch.dtype, mode: Any) -> None:
    maps = torch.from_numpy(drawn(2, 3, 4, 5)).to(half)
    found = resample(maps, (9, 8), mode)
    assert found.dtype == torch.float32
    assert torch.equal(found, resample(maps.float(), (9, 8), mode))
    assert normalize(maps).dtype == torch.float32
    assert resample(drawn(1, 1, 3).astype(np.float16), (5,)).dtype == np.float32


def test_resampling_keeps_each_map_within_its_own_range() -> None:
    step = np.array([0.0, 0.0, 1.0, 1.0])
    maps = np.stack([step, 10 * step - 3])[None]
    (small, large) = resample(maps, (16,), "cubic")[0]
    free = axis_matrix(half_pixel_centers(4, 16), 16, "cubic") @ step
    assert free.max() > 1.05  # the cubic overshoots
    assert free.min() < -0.05
    np.testing.assert_allclose(small, np.clip(free, 0, 1), atol=1e-12)
    np.testing.assert_allclose(large, np.clip(10 * free - 3, -3, 7), atol=1e-12)


def test_half_pixel_centers() -> None:
    assert half_pixel_centers(2, 8) == (1.5, 5.5)
    assert half_pixel_centers(4, 4) == (0, 1, 2, 3)
    assert half_pixel_centers(1, 5) == (2,)


BY_HAND = [  # cell centres, pixels, mode, the matrix
    ((1, 5), 7, "linear", [[1, 0], [1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1], [0, 1]]),
    ((1, 5), 7, "nearest", [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 1]]),
    ((-3, 1), 3, "linear", [[0.25, 0.75], [0, 1], [0, 1]]),  # a centre outside the input
    (
        (0, 1, 4),
        5,
        "linear",
        [[1, 0, 0], [0, 1, 0], [0, 2 / 3, 1 / 3], [0, 1 / 3, 2 / 3], [0, 0, 1]],
    ),  # uneven
    ((2.0,), 3, "linear", [[1], [1], [1]]),
    ((2.0,), 3, "cubic", [[1], [1], [1]]),
    # Keys' kernel with a = −3/4: (−3, 19, 19, −3)/32 midway between two cells; edge cells are repeated.
    (
        (0, 2, 4, 6),
        4,
        "cubic",
        [[1, 0, 0, 0], [1 / 2, 19 / 32, -3 / 32, 0], [0, 1, 0, 0], [-3 / 32, 19 / 32, 19 / 32, -3 / 32]],
    ),
]


@pytest.mark.parametrize(("centers", "size", "mode", "expected"), BY_HAND)
def test_matrix_done_by_hand(centers: tuple[float, ...], size: int, mode: Any, expected: list[Any]) -> None:
    found = axis_matrix(tuple(map(float, centers)), size, mode)
    assert found.shape == (size, len(centers))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("centers", "size"),
    [
        (((0.0, 8.0),), (16,)),
        (((1.0, 4.0, 9.0), (0.0, 16.0, 32.0)), (12, 40)),
        (((3.0,), (0.0, 2.0), (5.0, 6.0)), (5, 4, 9)),
    ],
    ids=["1", "2", "3"],
)
def test_a_cell_comes_out_at_its_centre(centers: Any, size: tuple[int, ...], mode: Any) -> None:
    grid = tuple(map(len, centers))
    for cell in np.ndindex(*grid):
        delta = np.zeros((1, 1, *grid))
        delta[0, 0][cell] = 1
        found = resample(delta, size, mode, centers)[0, 0]
        at = tuple(int(axis[i]) for axis, i in zip(centers, cell, strict=True))
        assert found[at] == pytest.approx(1)
        assert found.max() == pytest.approx(1)
        others = [
            tuple(int(a[i]) for a, i in zip(centers, other, strict=True)) for other in np.ndindex(*grid)
        ]
        assert sum(found[other] for other in others) == pytest.approx(1)


def test_centres_given_on_the_tiling_change_nothing() -> None:
    maps, size = drawn(1, 2, 3, 4), (10, 9)
    centers = [half_pixel_centers(n, s) for n, s in zip((3, 4), size, strict=True)]
    for mode in MODES:
        assert np.array_equal(resample(maps, size, mode), resample(maps, size, mode, centers))
        moved = resample(maps, size, mode, [tuple(c - 2 for c in axis) for axis in centers])
        assert not np.allclose(moved, resample(maps, size, mode), atol=1e-2)


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_the_matrices_sum_to_one(mode: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        cells, size = int(rng.integers(1, 9)), int(rng.integers(1, 30))
        centers = tuple(np.cumsum(rng.uniform(0.1, 5, cells)) - 4)
        matrix = axis_matrix(centers, size, mode)
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
        most = {"nearest": 1, "linear": 2, "cubic": 4}[mode]
        assert (np.count_nonzero(matrix, axis=1) <= most).all()
        assert mode == "cubic" or (matrix >= 0).all()
        nearest = np.abs(np.arange(size)[:, None] - np.asarray(centers)).argmin(1)
        assert mode != "nearest" or (matrix[np.arange(size), nearest] == 1).all()


def test_linear_resampling_reproduces_a_ramp_between_uneven_centres() -> None:
    centers = (2.0, 3.0, 7.0, 12.0)
    found = resample(np.array([[centers]]), (15,), "linear", [centers])[0, 0]
    np.testing.assert_allclose(found, np.clip(np.arange(15.0), 2, 12), atol=1e-12)


def test_the_size_must_have_the_grid_s_rank() -> None:
    with pytest.raises(InputError, match=r"size \(4, 4\) has 2 axes; the map's grid \(3,\) has 1"):
        resample(drawn(1, 1, 3), (4, 4))
    with pytest.raises(InputError, match=r"size \(4,\) has 1 axes; the map's grid \(3, 2\) has 2"):
        resample(drawn(1, 1, 3, 2), (4,))


# Literals are enforced by the type checker while tests run: what a user sees is found in a process without
# it.
WRONG_WORDS = {
    "mode": (
        "from chronocam.maps.resample import resample; resample(np.ones((1, 1, 2, 2)), (4, 4), 'lanczos')",
        "no resampling mode `lanczos`; choose one of nearest, linear, cubic",
    ),
    "scope": (
        "from chronocam.maps.normalize import normalize; normalize(np.ones((1, 1, 2, 2)), 'clip')",
        "no scope `clip`; choose one of frame, sample, batch or give (low, high)",
    ),
    "reduce": (
        "from chronocam.maps.combine import over_channels; over_channels(np.ones((1, 1, 2, 2)), 'mean')",
        "no channel reduction `mean`; choose one of max, sum, norm",
    ),
}


@pytest.fixture(scope="module")
def messages() -> dict[str, str]:
    """What each of WRONG_WORDS raises, in a fresh process."""
    program = (
        "import json, sys\nimport numpy as np\nfrom chronocam.errors import InputError\nfound = {}\n"
        "for name, code in json.loads(sys.argv[1]).items():\n"
        "    try:\n        exec(code)\n    except InputError as error:\n        found[name] = str(error)\n"
        "print(json.dumps(found))"
    )
    codes = json.dumps({name: code for name, (code, _) in WRONG_WORDS.items()})
    done = subprocess.run([sys.executable, "-c", program, codes], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", WRONG_WORDS)
def test_wrong_words_are_refused_in_one_line(name: str, messages: dict[str, str]) -> None:
    assert messages[name] == WRONG_WORDS[name][1]
    assert "\n" not in messages[name]


def test_a_torch_user_is_not_warned() -> None:
    """PyTorch warns, once per process, when it is given the memory of a read-only matrix."""
    program = (
        "import warnings, torch\nfrom chronocam.maps.resample import resample\n"
        "warnings.simplefilter('error')\n"
        "resample(torch.ones(1, 1, 2, dtype=torch.float64), (4,))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Normalisation.


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
def test_a_sample_s_targets_share_one_scale(array: Callable[..., Any]) -> None:
    maps = np.array([[[0.0, 2.0], [1.0, 4.0]], [[0.0, 10.0], [0.0, 5.0]]])
    found = normalize(array(maps))
    assert type(found) is type(array(maps))
    np.testing.assert_allclose(np.asarray(found), [[[0, 0.5], [0.25, 1]], [[0, 1], [0, 0.5]]])


def test_a_batch_shares_one_scale() -> None:
    maps = np.array([[[0.0, 2.0], [1.0, 4.0]], [[0.0, 10.0], [0.0, 5.0]]])
    np.testing.assert_allclose(normalize(maps, "batch"), maps / 10)


def test_signed_maps_start_at_their_least_value() -> None:
    maps = np.array([[[[-2.0, 0.0], [1.0, 2.0]]]])
    np.testing.assert_allclose(normalize(maps), [[[[0, 0.5], [0.75, 1]]]])


def clip() -> np.ndarray:
    """One sample, two targets, two frames of 1 × 2 pixels."""
    return np.array([[[[[0.0, 1.0]], [[4.0, 8.0]]], [[[2.0, 0.0]], [[6.0, 4.0]]]]])


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
def test_a_frame_has_its_own_scale_which_its_targets_share(array: Callable[..., Any]) -> None:
    found = np.asarray(normalize(array(clip()), "frame"))
    np.testing.assert_allclose(found, [[[[[0, 0.5]], [[0, 1]]], [[[1, 0]], [[0.5, 0]]]]])
    np.testing.assert_allclose(np.asarray(normalize(array(clip()))), clip() / 8)  # the clip's scale


def test_frames_of_different_samples_have_different_scales() -> None:
    maps = np.concatenate([clip(), 10 * clip()])
    found = normalize(maps, "frame")
    np.testing.assert_allclose(found[0], found[1])


@pytest.mark.parametrize("grid", [(4,), (2, 2)])
def test_only_clips_have_frames(grid: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r'scope "frame" needs .* got '):
        normalize(np.zeros((1, 1, *grid)), "frame")


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
def test_given_limits(array: Callable[..., Any]) -> None:
    found = normalize(array(np.array([[[-1.0, 1.0, 2.0, 9.0]]])), (1.0, 3.0))
    np.testing.assert_allclose(np.asarray(found), [[[0, 0, 0.5, 1]]])
    found = normalize(array(np.array([[[-1.0, 1.0]]], dtype=np.float32)), (-1.0, 1.0))
    assert found.dtype == array(np.zeros(1, np.float32)).dtype


@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_limits_must_increase(limits: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="not increasing"):
        normalize(np.ones((1, 1, 2)), limits)


@pytest.mark.parametrize("scope", ["frame", "sample", "batch", (0.0, 1.0)])
def test_zero_stays_zero(scope: Any) -> None:
    assert not normalize(np.zeros((2, 2, 2, 3, 3)), scope).any()


def test_a_constant_map_becomes_zero_and_nothing_else_changes() -> None:
    maps = np.array([[[7.0, 7.0]], [[0.0, 2.0]]])
    before = maps.copy()
    np.testing.assert_allclose(normalize(maps), [[[0, 0]], [[0, 1]]])
    assert np.array_equal(maps, before)


# Fusing layers.


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
def test_fusing_done_by_hand(array: Callable[..., Any]) -> None:
    """Shallow: tanh(2·m/4); deep: m/3; then the larger."""
    shallow, deep = np.array([[[[1.0, 2.0], [4.0, 0.0]]]]), np.array([[[[3.0, 0.0], [0.0, 1.0]]]])
    found = fuse([array(shallow), array(deep)])
    assert type(found) is type(array(deep))
    np.testing.assert_allclose(np.asarray(found), [[[[1, tanh(1)], [tanh(2), 1 / 3]]]])
    swapped = fuse([array(deep), array(shallow)])
    np.testing.assert_allclose(np.asarray(swapped), [[[[tanh(2), 0.5], [1, tanh(2 / 3)]]]])


def test_fusing_signed_maps_keeps_the_sign_of_the_larger_magnitude() -> None:
    shallow, deep = np.array([[[[-4.0, 1.0], [2.0, 0.0]]]]), np.array([[[[0.5, -1.0], [1.0, -0.2]]]])
    found = fuse([shallow, deep])
    np.testing.assert_allclose(found, [[[[-tanh(2), -1], [1, -0.2]]]])


def test_fusing_three_layers() -> None:
    maps = [np.array([[[v, 1.0]]]) for v in (0.5, -0.25, 0.9)]
    np.testing.assert_allclose(fuse(maps), [[[0.9, 1]]])
    maps = [np.array([[[1.0, v]]]) for v in (0.5, -0.75, 0.9)]
    np.testing.assert_allclose(fuse(maps), [[[1, -tanh(1.5)]]])  # tanh(1), −tanh(1.5), 0.9


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fusing_happens_on_the_finest_grid(order: tuple[int, int]) -> None:
    fine, coarse = np.array([[[0.0, 1.0, 0.0, 0.0]]]), np.array([[[0.0, 1.0]]])
    found = fuse([(fine, coarse)[i] for i in order])  # the coarse map becomes 0, 1/4, 3/4, 1
    expected = [0, tanh(2), 0.75, 1] if order == (0, 1) else [0, 1, tanh(1.5), tanh(2)]
    np.testing.assert_allclose(found, [[expected]])
    grids = [np.ones((1, 1, *grid)) for grid in ((2, 4, 4), (4, 2, 2), (1, 1, 1))]
    assert fuse(grids).shape == (1, 1, 2, 4, 4)


def test_every_map_is_fused_at_its_own_scale() -> None:
    shallow = np.array([[[1.0, 2.0], [10.0, 5.0]], [[0.0, 0.0], [-8.0, 4.0]]])
    deep = np.zeros((2, 2, 2))
    expected = [[[tanh(1), tanh(2)], [tanh(2), tanh(1)]], [[0, 0], [-tanh(2), tanh(1)]]]
    np.testing.assert_allclose(fuse([shallow, deep]), expected)


@pytest.mark.parametrize("array", ARRAYS, ids=["numpy", "torch"])
def test_a_product_keeps_what_layers_agree_on_and_a_mean_averages(array: Callable[..., Any]) -> None:
    one, two = np.array([[[4.0, -2.0, 1.0, 0.0]]]), np.array([[[1.0, -4.0, -2.0, 3.0]]])
    three = np.array([[[0.5, -1.0, 1.0, 1.0]]])
    layers = [array(one), array(two), array(three)]
    product, mean = fuse(layers, "product"), fuse(layers, "mean")
    assert type(product) is type(mean) is type(array(one))
    np.testing.assert_allclose(np.asarray(product), [[[0.25 * 0.5, -0.5, 0, 0]]])
    np.testing.assert_allclose(np.asarray(mean), [[[1.75 / 3, -2.5 / 3, 0.75 / 3, 1.75 / 3]]])


def test_an_unknown_way_to_fuse_is_refused() -> None:
    with pytest.raises(InputError, match="no way to fuse maps `prodct`; did you mean `product`"):
        fuse([np.ones((1, 1, 2))], "prodct")


def test_one_layer_is_only_scaled() -> None:
    np.testing.assert_allclose(fuse([np.array([[[1.0, -4.0]]])]), [[[0.25, -1]]])


# Regions.

TWO = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.5, 0.5, 0.0, 0.0],
        [0.0, 0.5, 0.2, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.1],
    ]
)


def test_the_largest_region_is_boxed() -> None:
    assert boxes(TWO) == [
        (1, 1, 3, 3)
    ]  # x0, y0, x1, y1: four cells of at least 0.15; the maximum is one cell
    assert boxes(TWO, largest=False) == [(1, 1, 3, 3), (4, 0, 5, 1)]


def test_the_threshold_is_a_share_of_the_maximum_and_counts_itself() -> None:
    assert boxes(TWO, 0.1, largest=False) == [(1, 1, 3, 3), (4, 0, 5, 1), (4, 3, 5, 4)]
    assert boxes(TWO, 0.3) == [(1, 1, 3, 3)]
    assert boxes(TWO, 0.5)[0] == (1, 1, 3, 3)
    assert boxes(TWO, 0.51) == [(4, 0, 5, 1)]
    assert boxes(TWO, 1.0) == [(4, 0, 5, 1)]
    assert boxes(100 * TWO, 0.51) == boxes(TWO, 0.51)


def test_a_box_ends_behind_its_last_cell_and_x_is_the_last_axis() -> None:
    wide = np.zeros((3, 7))
    wide[1, 2:6] = 1
    assert boxes(wide) == [(2, 1, 6, 2)]
    assert boxes(np.ones((2, 3))) == [(0, 0, 3, 2)]


def test_cells_that_share_a_corner_only_are_two_regions() -> None:
    assert boxes(np.eye(2), largest=False) == [(0, 0, 1, 1), (1, 1, 2, 2)]


def test_boxes_of_signals_and_clips() -> None:
    assert boxes(np.array([0.0, 2.0, 3.0, 0.0, 1.0]), largest=False) == [(1, 3), (4, 5)]
    volume = np.zeros((4, 5, 6))
    volume[1:3, 2, 3:6] = 1
    assert boxes(volume) == [(3, 2, 1, 6, 3, 3)]


@pytest.mark.parametrize("grid_map", [np.zeros((3, 3)), -np.ones((3, 3)), np.full((3, 3), np.nan)])
def test_a_map_without_a_positive_value_has_no_box(grid_map: np.ndarray) -> None:
    assert boxes(grid_map) == []
    assert boxes(grid_map, largest=False) == []


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_a_threshold_out_of_bounds_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match=rf"threshold {threshold} is not in \(0, 1\]"):
        boxes(TWO, threshold)


# Arrays.


def test_arrays_become_numpy_and_single_precision() -> None:
    graph = torch.ones(2, requires_grad=True) * 3
    assert np.array_equal(to_numpy(graph), [3, 3])
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        assert widen(torch.ones(2, dtype=dtype)).dtype == torch.float32
    for dtype in (np.float32, np.float64):
        assert widen(np.ones(2, dtype)).dtype == dtype


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30, 1e37])
@pytest.mark.parametrize("shape", [(1, 1, 3, 4, 4), (1, 1, 20, 2, 3)])
def test_the_principal_component_has_the_scale_of_the_array(shape, scale):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = principal_component(array)
    found = principal_component((array * np.float32(scale)).astype(np.float32))
    np.testing.assert_allclose(found / scale, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("targets", [3, 300])
def test_gradients_that_are_in_memory_once_are_as_large_as_others(
    targets: int, make: Callable[[np.ndarray], Any]
) -> None:
    draw = np.random.default_rng(0)
    weights, activations = draw.standard_normal((targets, 5)), draw.standard_normal((4, 5, 2, 3))
    dense = np.broadcast_to(weights[None, :, :, None, None], (4, targets, 5, 2, 3))
    expected = np.abs(dense * activations[:, None]).sum((2, 3, 4))
    for rows in (weights[None], weights[None] * np.ones((4, 1, 1))):
        once = torch.as_tensor(rows)[..., None, None].expand(4, targets, 5, 2, 3)
        gradients = once if make is torch.as_tensor else once.numpy()
        found = to_numpy(magnitude_of_products(gradients, make(activations)))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("samples", [1, 3])  # with weights of their own
def test_maps_of_more_classes_than_cells_are_the_same_sums(
    array: Callable[[np.ndarray], Any], samples: int
) -> None:
    weights, activations = drawn(samples, 300, 5), drawn(3, 5, 2, 4, seed=1)
    every = np.broadcast_to(weights, (3, 300, 5))
    # As rows of a linear layer are: one in memory for all samples.
    given = every if array is np.asarray else torch.from_numpy(weights).expand(3, -1, -1)
    cells = np.broadcast_to(every[..., None, None], (3, 300, 5, 2, 4))
    cells = cells if array is np.asarray else given[..., None, None].expand(-1, -1, -1, 2, 4)
    maps = weighted_sum(given, array(activations))
    np.testing.assert_allclose(maps, np.einsum("btc,bchw->bthw", every, activations), atol=1e-12)
    sums = magnitude_of_products(cells, array(activations))
    expected = np.einsum("btc,bchw->bt", abs(every), abs(activations))
    np.testing.assert_allclose(sums, expected, atol=1e-12)
