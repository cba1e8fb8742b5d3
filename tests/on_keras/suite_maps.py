"""What a map is: closed forms in NumPy, by hand, by finite differences. Run on one backend at a time."""

from typing import Any

import keras
import numpy as np
import pytest
from networks import L, cnn, conv1d, drawn, frames_lstm, outputs, samples, transfer

import chronocam as cc
from chronocam.errors import InputError, LayerError, LayoutError


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A valid 2D convolution, one window at a time."""
    h, w = kernel.shape[:2]
    out = np.zeros((len(x), x.shape[1] - h + 1, x.shape[2] - w + 1, kernel.shape[3]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = np.tensordot(x[:, i : i + h, j : j + w], kernel, 3) + bias
    return out


def gap_net(head: Any = None) -> Any:
    layers = [
        keras.Input((9, 7, 3)),
        L.Conv2D(4, 3, activation="relu", name="conv"),
        L.GlobalAveragePooling2D(),
    ]
    return drawn(keras.Sequential([*layers, *(head or [L.Dense(5, name="head")])]))


def by_hand(model: Any, x: np.ndarray, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM of the last layers' weights, and the logits."""
    kernel, bias, dense, offset = model.get_weights()
    a = np.maximum(convolved(x.astype(np.float64), kernel, bias), 0)
    weights = dense[:, classes].T / (a.shape[1] * a.shape[2])
    logits = a.mean((1, 2)) @ dense + offset
    return np.maximum(np.einsum("bhwk,bk->bhw", a, weights), 0), logits[np.arange(len(x)), classes]


@pytest.mark.parametrize(
    "head",
    [
        [L.Dense(5)],
        [L.Dense(5, activation="softmax")],
        [L.Dense(5), L.Softmax()],
        [L.Dense(5), L.Activation("softmax")],
        [L.Dense(5, activation="log_softmax")],
    ],
    ids=["logits", "fused", "softmax", "activation", "log_softmax"],
)
def test_gradcam_is_the_formula_on_logits(head: list[Any]) -> None:
    model, x = gap_net(head), samples((9, 7, 3), 3)
    explanation = cc.GradCAM(model, "conv").explain(x, [0, 4, 2])
    maps, logits = by_hand(model, x, [0, 4, 2])
    np.testing.assert_allclose(explanation.maps[:, 0], maps, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explanation.scores[:, 0], logits, rtol=1e-5, atol=1e-6)
    ends_in_softmax = len(head) > 1 or head[0].activation.__name__ != "linear"
    assert any("logits" in note for note in explanation.diagnostics) == ends_in_softmax
    assert np.asarray(explanation).shape == (3, 9, 7)


@pytest.mark.parametrize("depth", [2, 30])
def test_a_picture_may_be_small_for_its_network(depth: int) -> None:
    x = image = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="last_of_many")(x)
    x = L.Conv2D(4, 8, name="single")(x)
    for _ in range(depth):
        x = x + L.Conv2D(4, 1, activation="tanh")(x)
    model = drawn(keras.Model(image, L.Dense(3)(L.Flatten()(x))))
    assert cc.GradCAM(model).explain(samples((8, 8, 3)), 1).layer == "last_of_many"


def test_steps_as_pictures_before_an_lstm_are_no_patches() -> None:
    model = drawn(
        keras.Sequential(
            [
                keras.Input((48, 3)),
                L.Reshape((48, 3, 1)),
                L.Conv2D(5, (5, 1), activation="relu"),
                L.Conv2D(5, (5, 1), activation="relu", name="conv"),
                L.Reshape((40, 15)),
                L.LSTM(6),
                L.Dense(3),
            ]
        )
    )
    explanation = cc.GradCAM(model).explain(samples((48, 3)), 1)
    assert (explanation.layer, explanation.maps.shape[2:]) == ("conv", (40, 3))


def test_pictures_without_channels_have_their_rows_and_columns() -> None:
    conv, head = L.Conv2D(4, 3, activation="relu", name="conv"), L.Dense(5)
    layers = [keras.Input((9, 7)), L.Reshape((9, 7, 1)), conv, L.GlobalAveragePooling2D(), head]
    model, x = drawn(keras.Sequential(layers)), samples((9, 7), 3)
    explanation = cc.GradCAM(model).explain(x, [0, 4, 2])
    maps, _ = by_hand(model, x[..., None], [0, 4, 2])
    assert (explanation.layer, explanation.input_size) == ("conv", (9, 7))
    np.testing.assert_allclose(explanation.maps[:, 0], maps, rtol=1e-5, atol=1e-6)


def test_softmax_as_an_operation_is_seen() -> None:
    inputs = keras.Input((9, 7, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = drawn(keras.Model(inputs, keras.ops.softmax(L.Dense(5)(x))))
    x = samples((9, 7, 3))
    np.testing.assert_allclose(
        cc.GradCAM(model, "conv").explain(x, [1, 2]).maps[:, 0],
        by_hand(model, x, [1, 2])[0],
        rtol=1e-5,
        atol=1e-6,
    )


def test_output_layer_reads_what_the_layer_gives() -> None:
    model, x = cnn(), samples((16, 16, 3))
    logits = cc.GradCAM(model, "relu").explain(x, 1)
    probabilities = cc.GradCAM(model, "relu", output_layer="head").explain(x, 1)
    pooled = cc.GradCAM(model, "relu", output_layer="gap").explain(x, 1)
    np.testing.assert_allclose(probabilities.scores[:, 0], outputs(model, x)[:, 1], rtol=1e-5)
    activations = outputs(keras.Model(model.inputs, model.get_layer("relu").output), x)
    np.testing.assert_allclose(pooled.maps[:, 0], activations[..., 1] / 36, rtol=1e-5)
    assert not np.allclose(logits.scores, probabilities.scores)


def test_guided_backpropagation_by_hand() -> None:
    """1×1 convolution by (1, −1), ReLU, mean, weights (1, −2): the negative gradient is held back."""
    x = np.array([[[[3.0], [-1.0]], [[-2.0], [5.0]]]], np.float32)
    for relu in (
        [L.Conv2D(2, 1, activation="relu")],
        [L.Conv2D(2, 1), L.ReLU()],
        [L.Conv2D(2, 1), L.Activation("relu")],
    ):
        model = keras.Sequential([keras.Input((2, 2, 1)), *relu, L.GlobalAveragePooling2D(), L.Dense(1)])
        weights = [[[[[1.0, -1.0]]]], [0.0, 0.0], [[1.0], [-2.0]], [0.0]]
        model.set_weights([np.array(w, np.float32) for w in weights])
        guided = cc.GuidedBackprop(model, reduce="sum").explain(x, 1).maps[0, 0]
        np.testing.assert_allclose(guided, [[0.25, 0], [0, 0.25]])
        plain = cc.Saliency(model, reduce="sum").explain(x, 1).maps[0, 0]
        np.testing.assert_allclose(plain, [[0.25, 0.5], [0.5, 0.25]])
        both = cc.explain(model, x, 1, methods=["guidedbackprop", "saliency"])
        np.testing.assert_allclose(both["guidedbackprop"].maps[0, 0], [[0.25, 0], [0, 0.25]])
        np.testing.assert_allclose(both["saliency"].maps[0, 0], [[0.25, 0.5], [0.5, 0.25]])


def test_relu6_is_guided_too() -> None:
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), L.Conv2D(1, 1), L.ReLU(max_value=6), L.GlobalAveragePooling2D(), L.Dense(1)]
    )
    model.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    x = np.array([[[[3.0], [-1.0]], [[-2.0], [7.0]]]], np.float32)
    np.testing.assert_allclose(cc.GuidedBackprop(model).explain(x, 1).maps[0, 0], [[0.25, 0], [0, 0]])


def test_a_model_without_relu_says_so() -> None:
    model = drawn(
        keras.Sequential([keras.Input((5, 5, 1)), L.Conv2D(2, 2, activation="tanh"), L.Flatten(), L.Dense(2)])
    )
    x = samples((5, 5, 1))
    guided = cc.GuidedBackprop(model).explain(x, 0)
    assert any("no ReLU" in note for note in guided.diagnostics)
    np.testing.assert_allclose(guided.maps, cc.Saliency(model).explain(x, 0).maps)


def test_shapleycam_of_a_quadratic_score_is_half_of_gradcam() -> None:
    inputs = keras.Input((6, 6, 2))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="conv")(inputs))
    model, x = drawn(keras.Model(inputs, L.Dense(3)(L.Multiply()([pooled, pooled])))), samples((6, 6, 2))
    options: dict[str, Any] = {"conv_layer": "conv", "signed": True}
    half, whole = (m(model, **options).explain(x, [[0, 1], [2, 0]]).maps for m in (cc.ShapleyCAM, cc.GradCAM))
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(half, whole / 2, rtol=1e-4, atol=1e-6)


def test_each_call_of_a_shared_layer_has_its_own_gradient() -> None:
    shared, inputs = L.Conv2D(3, 1, use_bias=False, name="shared"), keras.Input((4, 4, 3))
    model = drawn(
        keras.Model(inputs, L.Dense(2, use_bias=False)(L.GlobalAveragePooling2D()(shared(shared(inputs)))))
    )
    kernel, head = (w.reshape(-1, w.shape[-1]) for w in model.get_weights())
    x = samples((4, 4, 3))
    first, second = x @ kernel, x @ kernel @ kernel
    expected = {"shared#0": first @ (kernel @ head[:, 1]) / 16, "shared#1": second @ head[:, 1] / 16}
    for layer, maps in expected.items():
        found = cc.HiResCAM(model, layer, signed=True).explain(x, 1)
        np.testing.assert_allclose(found.maps[:, 0], maps, rtol=1e-4, atol=1e-6)
    last = cc.HiResCAM(model, "shared", signed=True).explain(x, 1)
    np.testing.assert_allclose(last.maps[:, 0], expected["shared#1"], rtol=1e-4, atol=1e-6)
    assert any("called 2 times" in note for note in last.diagnostics)


def test_nested_layers_are_found_by_path_name_and_object() -> None:
    model, x = transfer(), samples((16, 16, 3))
    layer = model.get_layer("backbone").get_layer("add")
    maps = [
        cc.GradCAM(model, at).explain(x, 2).maps for at in ("backbone/add", "backbone.add", "add", layer, 1)
    ]
    for other in maps[1:]:
        np.testing.assert_array_equal(maps[0], other)
    assert cc.GradCAM(model, "backbone/bn").explain(x, 2).layer == "backbone/bn"
    assert cc.GradCAM(model).explain(x, 2).layer == "backbone"  # the residual sum, not the branch before it
    flat = keras.Model(model.get_layer("backbone").inputs, model.get_layer("backbone").outputs)
    a = outputs(flat, x)
    *_, w1, b1, w2, _ = model.get_weights()
    weights = (w1 * (a.mean((1, 2)) @ w1 + b1 > 0)[:, None]) @ w2[:, 2] / 256
    np.testing.assert_allclose(
        maps[0][:, 0], np.maximum(np.einsum("bhwk,bk->bhw", a, weights), 0), rtol=1e-4, atol=1e-6
    )


def test_several_targets_layers_and_methods_from_one_pass() -> None:
    model, x = cnn(), samples((16, 16, 3), 3)
    made = cc.explain(
        model,
        x,
        [cc.targets.Class(1), cc.targets.Contrast(0, 3)],
        methods=["gradcam", "layercam"],
        layers=["conv1", "relu"],
    )
    for name, explanation in made.items():
        method, _, layer = name.partition("@")
        for k, target in enumerate([cc.targets.Class(1), cc.targets.Contrast(0, 3)]):
            alone = cc.methods.METHODS[method](model, layer).explain(x, target)
            np.testing.assert_allclose(explanation.maps[:, k], alone.maps[:, 0], rtol=1e-4, atol=1e-7)
    assert not np.allclose(made["gradcam@relu"].maps[:, 0], made["gradcam@relu"].maps[:, 1])


def test_one_hot_targets_tensors_and_integers_agree() -> None:
    model, x = cnn(), samples((16, 16, 3), 3)
    classes = [4, 0, 2]
    hot = np.eye(5, dtype=np.float32)[classes]
    given = [np.array(classes), hot, keras.ops.convert_to_tensor(hot), keras.ops.convert_to_tensor(classes)]
    maps = [cc.GradCAM(model).explain(keras.ops.convert_to_tensor(x), t).maps for t in [classes, *given]]
    for other in maps[1:]:
        np.testing.assert_allclose(maps[0], other, rtol=1e-4)  # one of both in closed form
    assert not np.allclose(maps[0], cc.GradCAM(model).explain(x, [0, 0, 0]).maps)


def test_batches_give_what_all_at_once_gives() -> None:
    model, x = cnn(), samples((16, 16, 3), 5)
    whole, parts = (cc.GradCAM(model, batch_size=n).explain(x, [0, 1, 2, 3, 4]).maps for n in (None, 2))
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-7)


def test_tasks_and_operators_do_what_they_say() -> None:
    model, x = gap_net(), samples((9, 7, 3))
    hot = np.eye(5, dtype=np.float32)[[3, 1]]
    expected, _ = by_hand(model, x, [3, 1])
    np.testing.assert_allclose(
        cc.GradCAM(model, "conv", operator="classification").explain(x, hot).maps[:, 0],
        expected,
        rtol=1e-5,
        atol=1e-6,
    )
    regression = cc.GradCAM(model, "conv", operator="regression").explain(x, 2 * hot)
    np.testing.assert_allclose(np.maximum(regression.maps[:, 0], 0), 2 * expected, rtol=1e-5, atol=1e-6)

    def operator(model: Any, inputs: Any, targets: Any) -> Any:
        return keras.ops.sum(model(inputs) * keras.ops.convert_to_tensor(targets), axis=1) * 3.0

    found = cc.GradCAM(model, "conv", operator=operator).explain(x, hot)
    np.testing.assert_allclose(found.maps[:, 0], 3 * expected, rtol=1e-5, atol=1e-6)


def test_semantic_segmentation_averages_over_the_marked_pixels() -> None:
    inputs = keras.Input((6, 6, 2))
    hidden = L.Conv2D(3, 3, padding="same", name="conv")(inputs)
    model = drawn(keras.Model(inputs, L.Conv2D(2, 1, activation="softmax", name="dense")(hidden)))
    x, mask = samples((6, 6, 2)), np.zeros((2, 6, 6, 2), np.float32)
    mask[:, 1:3, 2, 1] = 1
    found = cc.HiResCAM(model, "conv", operator="semantic segmentation", signed=True).explain(x, mask)
    a = outputs(keras.Model(inputs, hidden), x)
    per_pixel = a @ model.get_weights()[2][0, 0, :, 1] / 2
    np.testing.assert_allclose(found.maps[:, 0], per_pixel * mask[..., 1], rtol=1e-4, atol=1e-6)


def test_a_region_of_a_dense_output_has_its_channels_last() -> None:
    inputs = keras.Input((4, 4, 2))
    hidden = L.Conv2D(3, 1, name="conv")(inputs)
    model, x = drawn(keras.Model(inputs, L.Conv2D(4, 1)(hidden))), samples((4, 4, 2))
    found = cc.HiResCAM(model, "conv", signed=True).explain(x, cc.targets.Region((1, 0, 3, 2), channel=2))
    mask = np.zeros((4, 4))
    mask[0:2, 1:3] = 1 / 4
    per_pixel = outputs(keras.Model(inputs, hidden), x) @ model.get_weights()[2][0, 0, :, 2]
    np.testing.assert_allclose(found.maps[:, 0], per_pixel * mask, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scores[:, 0], (outputs(model, x)[..., 2] * mask).sum((1, 2)), rtol=1e-5)


def test_object_detection_scores_the_best_box() -> None:
    """One prediction is the reference, with the same class: IoU 1, cosine 1; its objectness is the score."""
    inputs = keras.Input((8, 8, 1))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = drawn(keras.Model(inputs, L.Reshape((2, 7))(L.Dense(14)(pooled))))
    *first, head, _ = model.get_weights()
    head[:, [i for i in range(14) if i != 4]] = 0  # only the first box's objectness depends on the picture
    offset = np.array([0.1, 0.1, 0.5, 0.7, 0.2, 1, 0, 0.6, 0.6, 0.9, 0.9, 0.1, 0, 1], np.float32)
    model.set_weights([*first, head, offset])
    x, reference = samples((8, 8, 1)), np.array([[0.1, 0.1, 0.5, 0.7, 1, 1, 0]] * 2, np.float32)
    found = cc.GradCAM(model, "conv", operator="object detection", signed=True).explain(x, reference)
    a = np.maximum(convolved(x, *first), 0)
    np.testing.assert_allclose(found.scores[:, 0], a.mean((1, 2)) @ head[:, 4] + 0.2, rtol=1e-5)
    np.testing.assert_allclose(found.maps[:, 0], a @ head[:, 4] / 36, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [frames_lstm, conv1d], ids=["TimeDistributed and LSTM", "Conv1D"])
def test_gradients_at_the_input_are_finite_differences(make: Any) -> None:
    model = make()
    agrees_with_finite_differences(model, samples(tuple(model.input_shape[1:]), 1))


def test_convlstm_has_a_grid_over_time() -> None:
    model = drawn(
        keras.Sequential(
            [
                keras.Input((3, 8, 8, 1)),
                L.ConvLSTM2D(4, 3, return_sequences=True, name="convlstm"),
                L.GlobalAveragePooling3D(),
                L.Dense(2),
            ]
        )
    )
    x = samples((3, 8, 8, 1))
    assert cc.GradCAM(model).explain(x, 1).maps.shape == (2, 1, 3, 6, 6)
    agrees_with_finite_differences(model, x[:1])


def test_a_stack_of_time_distributed_layers_is_pooled_frame_by_frame() -> None:
    clip = keras.Input((3, 8, 8, 1))
    frames = L.TimeDistributed(L.Conv2D(4, 3, strides=2), name="conv")(clip)
    frames = L.TimeDistributed(L.MaxPooling2D(), name="pool")(L.ReLU(name="relu")(frames))
    model = drawn(keras.Model(clip, L.Dense(2)(L.LSTM(3)(L.TimeDistributed(L.Flatten())(frames)))))
    x = samples((3, 8, 8, 1))
    for layer in (None, "conv", "relu"):
        maps = cc.GradCAM(model, layer).explain(x, 1).maps
        assert np.array_equal(maps, cc.GradCAM(model, layer, pool="frame").explain(x, 1).maps)
        assert not np.allclose(maps, cc.GradCAM(model, layer, pool="clip").explain(x, 1).maps)
    # Behind a layer that saw several frames, a distributed one sees them too.
    mixed = L.TimeDistributed(L.Conv2D(4, 1), name="after")(L.ConvLSTM2D(3, 3, return_sequences=True)(clip))
    model = drawn(keras.Model(clip, L.Dense(2)(L.LSTM(3)(L.TimeDistributed(L.Flatten())(mixed)))))
    maps = cc.GradCAM(model, "after").explain(x, 1).maps
    assert np.array_equal(maps, cc.GradCAM(model, "after", pool="clip").explain(x, 1).maps)


def agrees_with_finite_differences(model: Any, x: np.ndarray) -> None:
    """Compare Σ x ∂S/∂x with the slope of every class along x."""
    classes = [cc.targets.Class(c) for c in range(model.output_shape[-1])]
    gradient = cc.InputXGradient(model, reduce="sum").explain(x, classes).maps[0]
    step = 2e-3
    up, down = (outputs(model, x * np.float32(1 + s * step))[0] for s in (1, -1))
    slopes = (up - down) / (2 * step)
    np.testing.assert_allclose(
        gradient.reshape(len(classes), -1).sum(1), slopes, atol=0.02 * np.abs(slopes).max()
    )


@pytest.mark.parametrize("stacked", [False, True], ids=["rows", "channels"])
def test_frames_as_pictures_are_explained_as_clips(stacked: bool) -> None:
    clips = samples((4, 16, 16, 3))
    pictures = np.moveaxis(clips, 1, 3).reshape(2, 16, 16, 12) if stacked else clips.reshape(8, 16, 16, 3)
    x = inputs = keras.Input(pictures.shape[1:])
    if stacked:
        x = L.Permute((3, 1, 2, 4))(L.Reshape((16, 16, 4, 3))(inputs))
        x = keras.ops.reshape(x, (-1, 16, 16, 3))
    features = L.Conv2D(5, 3, strides=4, activation="relu", name="conv")(x)
    logits = L.Dense(3, name="head")(L.GlobalAveragePooling2D()(features))
    model = drawn(keras.Model(inputs, keras.ops.mean(keras.ops.reshape(logits, (-1, 4, 3)), axis=1)))
    explanation = cc.GradCAM(model, signed=True, frames=4, batch_size=1).explain(pictures, [1, 2])
    activations = keras.ops.convert_to_numpy(keras.Model(inputs, features)(pictures))
    kernel = model.get_layer("head").get_weights()[0][:, [1, 2]] / activations[0, ..., 0].size / 4
    by_hand = np.einsum("nthwk,kn->nthw", activations.reshape(2, 4, *activations.shape[1:]), kernel)
    np.testing.assert_allclose(explanation.maps[:, 0], by_hand, rtol=1e-4, atol=1e-6)
    assert explanation.input_size == (4, 16, 16)
    assert cc.Saliency(model, frames=4).explain(pictures, 1).maps.shape == (2, 1, 4, 16, 16)
    with pytest.raises(InputError, match="frames=5 divides neither"):
        cc.GradCAM(model, frames=5).explain(pictures, 1)


def test_frames_of_a_clip_are_explained_each_by_itself() -> None:
    model, x = frames_lstm(), samples((4, 12, 12, 3))
    explanation = cc.GradCAM(model, "frames/cnn/conv2").explain(x, 1)
    assert explanation.maps.shape == (2, 1, 4, 4, 4)
    assert np.asarray(explanation).shape == (2, 4, 12, 12)
    assert cc.GradCAM(model).explain(x, 1).layer == "frames/cnn/conv2"


def test_joined_channels_have_the_axes_of_what_they_are_joined_from() -> None:
    image = keras.Input((8, 8, 3))
    # With kernels that see the whole picture, how the cells move says nothing of where they lie.
    joined = L.Concatenate(name="joined")([L.Conv2D(n, 15, padding="same")(image) for n in (4, 5)])
    pooled = L.GlobalAveragePooling2D()(L.Activation("relu", name="last")(joined))
    model = drawn(keras.Model(image, L.Dense(3)(pooled)))
    explanation = cc.GradCAM(model).explain(samples((8, 8, 3), 1), 1)
    assert (explanation.layer, explanation.maps.shape) == ("last", (1, 1, 8, 8))
    assert not any("assumed" in note for note in explanation.diagnostics)


def test_conv1d_has_its_grid_along_time() -> None:
    explanation = cc.GradCAM(conv1d()).explain(samples((32, 4)), 0)
    assert explanation.maps.shape == (2, 1, 13)
    assert np.asarray(explanation).shape == (2, 32)


def centers(model: Any, layer: str) -> Any:
    x = samples(tuple(model.input_shape[1:]), 1)
    return cc.GradCAM(model, layer, align="receptive_field").explain(x, lambda y: y[:, 0]).centers


def test_receptive_fields_have_their_centres_where_keras_pads() -> None:
    layers = [
        keras.Input((16, 12, 1)),
        L.Conv2D(2, 3, strides=2, padding="same", name="same"),  # pads behind alone: cell i sees 2i to 2i + 2
        L.ZeroPadding2D(((1, 0), (2, 1)), name="padded"),
        L.MaxPooling2D(2, name="pool"),  # cells 2j and 2j + 1 of the padded ones
        L.Conv2D(2, 2, dilation_rate=2, name="dilated"),  # cells k and k + 2 of those
        L.GlobalAveragePooling2D(),
        L.Dense(2),
    ]
    model = keras.Sequential(layers)
    assert centers(model, "same") == (tuple(range(1, 17, 2)), tuple(range(1, 13, 2)))
    assert centers(model, "padded") == (tuple(range(-1, 17, 2)), tuple(range(-3, 15, 2)))
    assert centers(model, "pool") == ((0.0, 4.0, 8.0, 12.0), (-2.0, 2.0, 6.0, 10.0))
    assert centers(model, "dilated") == ((4.0, 8.0), (2.0, 6.0))
    beside = keras.Input((8, 8, 1))
    twice = L.Conv2D(1, 3, name="conv")(L.Concatenate(axis=1)([beside, beside]))
    with pytest.raises(LayoutError, match="its rows follow no axis"):  # they are the picture's twice
        centers(keras.Model(beside, L.Dense(2)(L.Flatten()(twice))), "conv")
    wide = keras.Sequential(
        [keras.Input((64,)), L.Reshape((64, 1)), L.Conv1D(2, 3, name="conv"), L.Flatten(), L.Dense(2)]
    )
    with pytest.raises(LayoutError, match="half_pixel"):
        centers(wide, "conv")


def residual() -> Any:
    """Squeeze and excitation, which sees everything but leads to no place, and branches that meet."""
    x = inputs = keras.Input((33, 40, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    y = L.DepthwiseConv2D(5, padding="same")(L.Multiply(name="gated")([x, gate]))
    x = L.AveragePooling2D(3, 2, padding="same", name="pool")(L.Add(name="sum")([x, y]))
    return drawn(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x))))


@pytest.mark.parametrize("align", ["half_pixel", "receptive_field"])
def test_slices_of_a_causal_network_lie_where_they_look(align: str) -> None:
    inputs = keras.Input((8, 6, 6, 1))
    x = L.Conv3D(2, (3, 1, 1), name="conv")(L.ZeroPadding3D(((2, 0), (0, 0), (0, 0)))(inputs))
    model = drawn(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling3D()(x))))
    found = cc.GradCAM(model, "conv", align=align).explain(samples((8, 6, 6, 1), 2), 1)
    assert found.centers == (tuple(range(-1, 7)), tuple(range(6)), tuple(range(6)))
    assert any("no later frames" in note for note in found.diagnostics) is (align == "half_pixel")


def turned(turn: Any, shape: tuple[int, ...] = (16, 24, 3)) -> keras.Model:
    """A convolution that sees its input other than it was given."""
    inputs, rank = keras.Input(shape), len(shape) - 1
    conv = {2: L.Conv2D, 3: L.Conv3D}[rank](4, 3, 2, "same", name="conv")
    pool = {2: L.GlobalAveragePooling2D, 3: L.GlobalAveragePooling3D}[rank]()
    return drawn(keras.Model(inputs, L.Dense(2)(pool(conv(turn(inputs))))))


@pytest.mark.parametrize("layer", [None, "conv"])
@pytest.mark.parametrize(
    ("turn", "shape"),
    [
        (lambda x: keras.ops.flip(x, 2), (16, 24, 3)),
        (L.Permute((2, 1, 3)), (16, 24, 3)),
        (lambda x: keras.ops.flip(x, 1), (8, 12, 12, 2)),
    ],
    ids=["flipped", "transposed", "reversed"],
)
def test_what_the_model_turns_is_not_laid_over_what_was_given(
    turn: Any, shape: tuple[int, ...], layer: str | None
) -> None:
    with pytest.raises((LayerError, LayoutError), match=r"the places of the input|follows the input"):
        cc.GradCAM(turned(turn, shape), layer).explain(samples(shape, 2), 1)


@pytest.mark.parametrize("crop", [L.Cropping2D(((4, 4), (8, 4))), lambda x: x[:, 4:12, 8:20]])
def test_a_map_of_a_part_of_the_picture_lies_on_that_part(crop: Any) -> None:
    found = cc.GradCAM(turned(crop), "conv").explain(samples((16, 24, 3), 2), 1)
    assert found.centers is not None
    assert [(axis[0], axis[-1]) for axis in found.centers] == [(4.5, 10.5), (8.5, 18.5)]
    assert any("rows 4 to 11 of 16 and columns 8 to 19 of 24" in text for text in found.diagnostics)


def test_a_cell_that_can_see_the_whole_picture_is_a_finding() -> None:
    layers = [L.Conv2D(2, 5, 2, "same"), L.Conv2D(2, 5, 1, "same", name="last"), L.GlobalAveragePooling2D()]
    for size, wide in ((12, True), (14, False)):  # a cell sees 13 pixels
        model = keras.Sequential([keras.Input((size, size, 1)), *layers, L.Dense(2)])
        kinds = [
            finding.kind for finding in cc.GradCAM(model).explain(samples((size, size, 1), 1), 1).findings
        ]
        assert ("wide field" in kinds) is wide


@pytest.mark.parametrize("make", [residual, transfer], ids=["gated", "nested"])
def test_receptive_fields_are_where_gradients_are(make: Any) -> None:
    model = make()
    layer = "pool" if make is residual else "backbone/branch"
    found = centers(model, layer)
    i, j = (len(axis) // 2 for axis in found)
    gradient = np.zeros(model.input_shape[1:3])
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal((1, *model.input_shape[1:])).astype(np.float32)
        cell = cc.Saliency(model, output_layer=layer).explain(x, lambda y: y[:, i, j, 0] + y[:, i, j, 1])
        gradient += np.where(cell.maps[0, 0] > 0.02 * cell.maps.max(), 1, 0)
    rows, columns = (np.flatnonzero(gradient.any(axis)) for axis in (1, 0))
    assert (found[0][i], found[1][j]) == ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)


def test_the_last_state_of_a_convolutional_lstm_is_one_slice() -> None:
    clips = keras.Input((4, 12, 16, 3))
    state = L.ConvLSTM2D(5, 3, padding="same", strides=2, name="state")(clips)
    net = keras.Model(clips, L.Dense(3)(L.GlobalAveragePooling2D()(state)))
    x = np.random.default_rng(0).random((2, 4, 12, 16, 3), np.float32)
    found = cc.GradCAM(net, signed=True).explain(x, 1)
    assert (found.layer, found.maps.shape) == ("state", (2, 1, 1, 6, 8))
    states = keras.ops.convert_to_numpy(keras.Model(clips, state)(x))
    right = states @ net.layers[-1].get_weights()[0][:, 1] / 48  # of a mean over 48 cells
    np.testing.assert_allclose(found.maps[:, 0, 0], right, rtol=1e-4, atol=1e-6)


def test_axes_that_the_model_exchanges_are_told() -> None:
    sound = keras.Input((40, 60, 1))
    cells = L.Conv2D(4, 3, 2, name="cells")(L.Permute((2, 1, 3))(sound))
    net = drawn(keras.Model(sound, L.Dense(3)(L.GlobalAveragePooling2D()(cells))))
    with pytest.raises(LayerError, match="`cells`, its rows follow the input's columns, its columns follow"):
        cc.GradCAM(net).explain(samples((40, 60, 1)), 1)


def joined(picture: Any) -> Any:
    """Zeros beside a picture, as a model may write its own padding."""
    zeros = keras.ops.zeros_like(picture)
    wide = L.Concatenate(axis=2)([zeros[:, :, :4], picture, zeros[:, :, :12]])
    return keras.ops.concatenate([keras.ops.zeros_like(wide)[:, :8], wide], axis=1)


@pytest.mark.parametrize("pad", [L.ZeroPadding2D(((8, 0), (4, 12))), joined], ids=["padded", "joined"])
def test_a_map_is_not_stretched_over_padding_of_the_model(pad: Any) -> None:
    picture = keras.Input((16, 24, 3))
    cells = L.Conv2D(4, 4, 4, name="cells")(pad(picture))
    net = keras.Model(picture, L.Dense(3)(L.GlobalAveragePooling2D()(cells)))
    x = np.random.default_rng(0).random((1, 16, 24, 3), np.float32)
    for layer in (None, "cells"):
        found = cc.HiResCAM(net, layer, signed=True).explain(x, 1)
        assert found.maps.shape == (1, 1, 6, 10)
        inside = found.maps[0, 0, 2:, 1:7]
        np.testing.assert_allclose(found.upsample(mode="nearest")[0, 0], inside.repeat(4, 0).repeat(4, 1))
        assert any("2 of 6 rows and 4 of 10 columns" in text for text in found.diagnostics)
