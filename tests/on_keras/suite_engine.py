"""How Keras models are run: left as found, compiled once, any kind of model, data sets, errors."""

import gc
import itertools
import sys
import weakref
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import keras
import numpy as np
import pytest
from helpers import does_not_grow, one_line
from networks import L, cnn, drawn, frames_lstm, outputs, samples, transfer

import chronocam as cc
from chronocam.engines.choose import engine_for
from chronocam.engines.keras.compiled import OffsetPass
from chronocam.engines.keras.engine import KerasEngine
from chronocam.errors import ChronocamError, InputError, LayerError, LayoutError, ModelError, TargetError
from chronocam.joint import explaining
from chronocam.maps.arrays import to_numpy

BACKEND = keras.backend.backend()
compiles = pytest.mark.skipif(BACKEND == "torch", reason="nothing is compiled on PyTorch")
streams = pytest.mark.skipif(find_spec("tensorflow") is None, reason="tf.data is part of TensorFlow")


def state(model: Any) -> list[Any]:
    """What may not change: attributes of every layer, and weights."""
    layers = list(KerasEngine(model).nodes.values())
    own = [
        {name: id(value) for name, value in layer.__dict__.items() if name in ("call", "activation")}
        for layer in layers
    ]
    return [
        own,
        [getattr(layer, "trainable", None) for layer in layers],
        [w.tobytes() for w in model.get_weights()],
    ]


def test_the_model_is_left_as_found() -> None:
    model, x = transfer(), samples((16, 16, 3))
    before = state(model)
    cc.explain(model, x, 1, methods=["gradcam", "guidedbackprop", "shapleycam"], layers=["backbone/add"])
    assert state(model) == before
    if BACKEND == "torch":
        assert all(v.value.grad is None for v in model.variables)


def test_the_model_is_left_as_found_after_an_exception() -> None:
    model, x = frames_lstm(), samples((4, 12, 12, 3))
    before = state(model)

    def fails(*given: Any, **options: Any) -> Any:
        raise RuntimeError("mine")

    for options in ({"operator": fails}, {}):
        with pytest.raises(RuntimeError, match="mine"):
            cc.GradCAM(model, "frames/cnn/conv2", **options).explain(x, fails)
        assert state(model) == before
    broken = model.get_layer("lstm")
    broken.call = fails  # a layer that fails, set by the user: it stays, and nothing else does
    before = state(model)
    with pytest.raises(InputError, match="mine") as error:
        cc.GradCAM(model, "frames/cnn/conv1").explain(x, 1)
    assert type(error.value.__cause__) is RuntimeError
    assert state(model) == before
    assert broken.call is fails


def test_gradients_of_the_caller_are_left_alone() -> None:
    if BACKEND != "torch":
        pytest.skip("only PyTorch keeps gradients with parameters")
    import torch

    model, x = cnn(), samples((16, 16, 3))
    kernel = model.get_layer("conv2").kernel.value
    kernel.grad = torch.ones_like(kernel)
    with torch.no_grad():
        cc.GradCAM(model).explain(x)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert bool((kernel.grad == 1).all())


@compiles
def test_tracing_happens_once_per_model_layers_and_shape() -> None:
    programs = import_module("chronocam.engines.keras.compiled")
    model, x = cnn(), samples((16, 16, 3), 4)

    def traces() -> int:
        return sum(run.traces for run in programs._COMPILED[model].values())

    cc.GradCAM(model, "conv1").explain(x, 1)
    assert traces() == 1
    for target in (0, [0, 1, 2, 3], None, cc.targets.Contrast(1, 2), [[0, 1]] * 4):
        cc.GradCAM(model, "conv1").explain(x + 1, target)
        cc.explain(model, x, target, methods=["gradcam"], layers=["conv1"])
    assert traces() == 1
    cc.GradCAM(model, "conv1").explain(x[:3], 1)
    assert traces() == 2
    model.set_weights([2 * w for w in model.get_weights()])
    doubled = cc.GradCAM(model, "conv1").explain(x, 1)
    assert traces() == 2
    np.testing.assert_allclose(doubled.maps, cc.GradCAM(drawn_twice(), "conv1").explain(x, 1).maps, rtol=1e-5)


class Differentiated(cc.targets.Class):
    picks = False


@compiles
def test_scores_that_are_logits_of_classes_are_not_differentiated(monkeypatch: Any) -> None:
    passes = import_module("chronocam.joint.passes.record")
    asked, ask = [], passes.PassScore.classes

    def noted(score: Any, result: Any) -> Any:
        asked.append(ask(score, result))
        return asked[-1]

    monkeypatch.setattr(passes.PassScore, "classes", noted)
    model, x = cnn(), samples((16, 16, 3))
    gradcam = cc.GradCAM(model, "conv1", signed=True)
    maps = {}
    for name, target in (
        ("class", 2),
        ("all", cc.targets.Predicted(5)),
        ("by hand", Differentiated(2)),
    ):
        maps[name] = gradcam.explain(x, target)
        known = asked.pop()
        assert (known is None) == (name == "by hand")
        if name != "by hand":
            named = [[info.index for info in row] for row in maps[name].targets]
            np.testing.assert_array_equal(known, named)
    np.testing.assert_allclose(maps["class"].maps, maps["by hand"].maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps["class"].scores, maps["by hand"].scores, rtol=1e-6)
    at = [[info.index for info in row].index(2) for row in maps["all"].targets]
    np.testing.assert_allclose(maps["all"].maps[range(2), at], maps["class"].maps[:, 0], rtol=1e-4, atol=1e-6)


def test_a_model_that_was_changed_is_explained_as_it_is_now() -> None:
    model, x = cnn(), samples((16, 16, 3))
    saliency = cc.Saliency(model)
    before = saliency.explain(x, 1)
    for layer, name, value in (("conv1", "activation", keras.activations.tanh), ("relu", "max_value", 0.1)):
        setattr(model.get_layer(layer), name, value)
        after = saliency.explain(x, 1)
        assert not np.allclose(before.maps, after.maps)
        fresh = keras.Sequential.from_config(model.get_config())
        fresh.set_weights(model.get_weights())
        np.testing.assert_allclose(after.maps, cc.Saliency(fresh).explain(x, 1).maps, rtol=1e-4, atol=1e-6)
        before = after


def test_settings_are_not_gone_through_again_while_they_stay(monkeypatch: Any) -> None:
    model, x = cnn(), samples((16, 16, 3))
    gradcam, taken = cc.GradCAM(model, "relu"), []
    found = KerasEngine._fingerprint
    monkeypatch.setattr(KerasEngine, "_fingerprint", lambda engine: taken.append(1) or found(engine))
    for _ in range(3):
        gradcam.explain(x, 1)
        model.set_weights(model.get_weights())
    assert len(taken) == 1
    model.get_layer("pool").strides = (1, 1)
    gradcam.explain(x, 1)
    assert len(taken) == 2


def drawn_twice() -> Any:
    model = cnn()
    model.set_weights([2 * w for w in model.get_weights()])
    return model


@compiles
def test_the_layer_of_a_model_is_searched_once_and_anew_after_a_change(monkeypatch: Any) -> None:
    searched, search = [], explaining.default_layer
    monkeypatch.setattr(explaining, "default_layer", lambda *asked: searched.append(1) or search(*asked))
    head = [L.GlobalAveragePooling2D(), L.Dense(3)]
    model = drawn(keras.Sequential([keras.Input((9, 9, 3)), L.Conv2D(4, 3, activation="relu"), *head]))
    x = samples((9, 9, 3), 3)
    for method, target in ((cc.GradCAM, 1), (cc.GradCAM, 1), (cc.LayerCAM, 0), (cc.GradCAM, None)):
        method(model).explain(x, target)
        model.predict(x, verbose=0)
        assert len(searched) == 1
    model.layers[0].activation = keras.activations.tanh
    cc.GradCAM(model).explain(x, 1)
    assert len(searched) == 2


def test_what_was_compiled_goes_with_the_model() -> None:
    programs = import_module("chronocam.engines.keras.compiled")
    model = cnn()
    cc.GradCAM(model, "relu").explain(samples((16, 16, 3)), 1)
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None
    assert all(known() is not None for known in programs._COMPILED.keyrefs())


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files and memory as Linux does")
def test_a_thousand_calls_leave_nothing_behind() -> None:
    model, x = cnn(), samples((16, 16, 3))
    does_not_grow(lambda: cc.GradCAM(model, "relu").explain(x, 1))


def test_what_a_model_remembers_is_left_as_found() -> None:
    steps = keras.Input(batch_shape=(1, 5, 8, 8, 3))
    frames = L.TimeDistributed(L.Conv2D(4, 3, activation="relu", name="conv"), name="frames")(steps)
    pooled = L.TimeDistributed(L.GlobalAveragePooling2D())(frames)
    model = drawn(keras.Model(steps, L.Dense(3)(L.GRU(4, stateful=True, name="memory")(pooled))))
    x, memory = samples((5, 8, 8, 3), 1), model.get_layer("memory")
    model(x)
    before = [keras.ops.convert_to_numpy(state).copy() for state in memory.states]
    scores = [
        method(model, "frames").explain(x, 1).scores
        for method in (cc.GradCAM, cc.GradCAM, cc.ReciproCAM, cc.AblationCAM)
    ]
    np.testing.assert_allclose(scores, [scores[0]] * 4, rtol=1e-5)
    for now, then in zip(memory.states, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(now), then)
    np.testing.assert_allclose(scores[0][:, 0], outputs(model, x)[:, 1], rtol=1e-4)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = L.Conv2D(6, 3, activation="relu"), L.Conv2D(4, 3, activation="relu")
        self.pool, self.head = L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.head(self.pool(self.second(self.first(x))))


def test_a_subclassed_model_is_as_a_functional_one() -> None:
    model, x = Subclassed(), samples((12, 12, 3))
    with pytest.raises(ModelError, match="not built"):
        cc.GradCAM(model)
    model(x)
    inputs = keras.Input((12, 12, 3))
    functional = keras.Model(inputs, model.head(model.pool(model.second(model.first(inputs)))))
    one, other = cc.GradCAM(model).explain(x, 1), cc.GradCAM(functional).explain(x, 1)
    np.testing.assert_allclose(one.maps, other.maps, rtol=1e-5, atol=1e-7)
    assert one.layer == model.second.name
    assert any("logits" in note for note in one.diagnostics)


class ByValue(Subclassed):
    def call(self, x: Any) -> Any:
        x = self.first(x)
        if keras.ops.max(x) > 0:  # decided in Python: cannot be traced
            x = 2 * x
        return self.head(self.pool(self.second(x)))


def test_a_model_that_decides_by_values_runs_eagerly() -> None:
    model, plain, x = ByValue(), Subclassed(), samples((12, 12, 3))
    model(x), plain(x)
    plain.set_weights(model.get_weights())
    for layer in ("first", "second"):
        one = cc.HiResCAM(model, getattr(model, layer).name, signed=True).explain(x, 1)
        other = cc.HiResCAM(plain, getattr(plain, layer).name, signed=True).explain(2 * x, 1)
        np.testing.assert_allclose(one.maps, other.maps, rtol=1e-4, atol=1e-6)


def two_by_two() -> Any:
    image, number = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="number")
    conv = L.Conv2D(4, 3, activation="relu", name="conv")(image)
    pooled = L.Concatenate()([L.GlobalAveragePooling2D()(conv), number])
    side = L.Conv2D(2, 3, name="side")(image)
    heads = [L.Dense(3, name="a")(pooled), L.Dense(2, name="b")(L.GlobalAveragePooling2D()(side))]
    return drawn(keras.Model([image, number], heads))


def test_several_inputs_and_outputs() -> None:
    model = two_by_two()
    x = samples((8, 8, 1)), samples((3,))
    first = cc.GradCAM(model, "conv").explain(x, 1)
    np.testing.assert_allclose(
        cc.GradCAM(model, "conv").explain({"image": x[0], "number": x[1]}, 1).maps, first.maps
    )
    second = cc.GradCAM(model, "side", signed=True)
    by_layer = cc.GradCAM(model, "side", signed=True, output_layer="b").explain(x, 1)
    np.testing.assert_allclose(
        second.explain(x, lambda outputs: outputs[1][:, 1]).maps, by_layer.maps, rtol=1e-5
    )
    assert np.abs(by_layer.maps).max() > 0
    with pytest.raises(LayerError, match="does not depend on layer `side`"):
        cc.GradCAM(model, "side").explain(x, 1)
    with pytest.raises(InputError, match="got 1 inputs; the model takes 2"):
        cc.GradCAM(model, "conv").explain(x[0], 1)


def test_a_score_without_a_slope_gives_zero_maps_that_say_so() -> None:
    model, x = cnn(), samples((16, 16, 3))
    flat = cc.GradCAM(model).explain(x, lambda outputs: keras.ops.relu(outputs[:, 1] - 1e6))
    assert not flat.maps.any()
    assert any("zero" in note for note in flat.diagnostics)


@pytest.mark.parametrize("dead", [False, True])
def test_a_few_passes_tell_which_layers_lead_to_the_score(
    dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves, passes = OffsetPass._moves, list[int]()

    def counted(self: Any, inputs: Any, layers: Any, *others: Any) -> bool:
        passes.append(len(layers))
        return moves(self, inputs, layers, *others)

    monkeypatch.setattr(OffsetPass, "_moves", counted)
    x = image = keras.Input((8, 8, 3))
    x = y = L.Conv2D(4, 3, name="body")(x)
    x = L.ReLU(name="gate")(x - 1e3 if dead else x)
    for at in range(12):
        y = L.Conv2D(4, 1, name=f"other{at}")(y)
    model = drawn(keras.Model(image, [L.Dense(3)(L.Flatten()(x)), L.Dense(3)(L.Flatten()(y))]))
    engine = engine_for(model)
    calls = engine.trace(samples((8, 8, 3)), lambda result: result.raw[0][:, :1])
    gradients = {call.path: call.gradient for call in calls}
    # Behind a dead ReLU nothing has a slope, though a large enough change would get through.
    assert gradients["body"] is not None
    assert dead != bool(np.any(to_numpy(gradients["body"])))
    assert all(gradients[f"other{at}"] is None for at in range(12))
    assert dead or len(passes) <= 1
    passes.clear()
    kept = engine.trace(samples((8, 8, 3)), keep=["body", "other3"])
    outputs = {call.path: call.output for call in kept if call.output is not None}
    first = keras.Model(image, model.get_layer("other3").output)
    expected = keras.ops.convert_to_numpy(first(samples((8, 8, 3))))
    np.testing.assert_allclose(to_numpy(outputs["other3"]), expected, rtol=1e-5, atol=1e-5)
    assert set(outputs) == {"body", "other3"}
    assert not passes


def of_four(reshaped: bool) -> Any:
    x = image = keras.Input(batch_shape=(4, 8, 8, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = keras.ops.reshape(x, (4, 144)) if reshaped else L.Flatten()(x)
    return drawn(keras.Model(image, L.Dense(3)(x)))


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_a_model_built_for_batches_of_one_size_takes_others(count: int) -> None:
    explanation = cc.GradCAM(of_four(False)).explain(samples((8, 8, 3), 5)[:count], 1)
    image = keras.Input((8, 8, 3))
    same = keras.Model(image, L.Dense(3)(L.Flatten()(L.Conv2D(4, 3, activation="relu", name="conv")(image))))
    expected = cc.GradCAM(drawn(same)).explain(samples((8, 8, 3), 5)[:count], 1)
    np.testing.assert_allclose(explanation.maps, expected.maps, rtol=1e-5, atol=1e-6)


def test_a_model_that_runs_on_batches_of_one_size_alone_says_what_to_do() -> None:
    model, x = of_four(True), samples((8, 8, 3), 8)
    with pytest.raises(InputError, match=r"batches of 4 alone: give batch_size=4.*set_weights") as error:
        cc.GradCAM(model).explain(x[:4], 1)
    assert "\n" not in str(error.value)
    told = cc.GradCAM(model, "conv", batch_size=4).explain(x, 1)
    expected = cc.GradCAM(of_four(False), "conv").explain(x, 1)
    np.testing.assert_allclose(told.maps, expected.maps, rtol=1e-5, atol=1e-6)


def test_outputs_are_chosen_by_name() -> None:
    inputs = keras.Input((8, 8, 1))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="conv")(inputs))
    dense, other = L.Dense(3), L.Dense(3)
    model = drawn(keras.Model(inputs, {"features": other(pooled), "logits": dense(pooled)}))
    plain, x = keras.Model(inputs, dense(pooled)), samples((8, 8, 1))
    expected = cc.GradCAM(plain, "conv").explain(x, 1).maps
    np.testing.assert_allclose(cc.GradCAM(model, "conv").explain(x, 1).maps, expected, rtol=1e-5)
    nameless = keras.Model(inputs, {"u": other(pooled), "v": dense(pooled)})
    with pytest.raises(ModelError, match="output_layer="):
        cc.GradCAM(nameless, "conv").explain(x, 1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_changes_maps_little(policy: str) -> None:
    x = samples((16, 16, 3))
    expected = cc.GradCAM(cnn(), "relu").explain(x, 1)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = cnn()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for layer in ("relu", "conv1"):
        found = cc.GradCAM(model, layer).explain(x, 1)
        assert found.maps.dtype == np.float32
        scale = cc.GradCAM(cnn(), layer).explain(x, 1).maps
        np.testing.assert_allclose(found.maps, scale, atol=0.05 * np.abs(scale).max())
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.1)


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="TensorFlow has no channels-first convolutions on the CPU"
)
def test_channels_first_give_the_same_maps() -> None:
    model, x = cnn(), samples((16, 16, 3))
    keras.config.set_image_data_format("channels_first")
    try:
        first = keras.Sequential(
            [
                keras.Input((3, 16, 16)),
                L.Conv2D(6, 3, activation="relu", padding="same"),
                L.MaxPooling2D(),
                L.Conv2D(8, 3),
                L.ReLU(),
                L.GlobalAveragePooling2D(),
                L.Dense(5, activation="softmax"),
            ]
        )
    finally:
        keras.config.set_image_data_format("channels_last")
    first.set_weights(model.get_weights())
    for method in (cc.GradCAM, cc.Saliency):
        found, expected = method(first).explain(np.moveaxis(x, -1, 1), 1), method(model).explain(x, 1)
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-6)


def test_arrays_of_few_channels_and_frames_are_read_by_the_model() -> None:
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), L.Conv2D(8, 1, name="conv"), L.GlobalAveragePooling2D(), L.Dense(2)]
    )
    explanation = cc.HiResCAM(drawn(model), "conv", signed=True).explain(samples((8, 8, 2)), 0)
    a = samples((8, 8, 2)) @ model.get_weights()[0][0, 0] + model.get_weights()[1]
    np.testing.assert_allclose(
        explanation.maps[:, 0], a @ model.get_weights()[2][:, 0] / 64, rtol=1e-4, atol=1e-6
    )


def a_net(shape: tuple[int, ...], convolution: Any, pool: Any) -> Any:
    return drawn(
        keras.Sequential([keras.Input(shape), convolution(4, 3, activation="relu"), pool(), L.Dense(3)])
    )


@pytest.mark.parametrize(
    ("make", "shape", "method"),
    [
        (
            lambda: drawn(keras.Sequential([keras.Input((9,)), L.Dense(5, "tanh"), L.Dense(3)])),
            (9,),
            cc.Saliency,
        ),
        (lambda: a_net((20, 4), L.Conv1D, L.GlobalAveragePooling1D), (20, 4), cc.GradCAM),
        (lambda: a_net((9, 11, 3), L.Conv2D, L.GlobalAveragePooling2D), (9, 11, 3), cc.GradCAM),
        (lambda: a_net((5, 9, 11, 3), L.Conv3D, L.GlobalAveragePooling3D), (5, 9, 11, 3), cc.GradCAM),
        (frames_lstm, (4, 12, 12, 3), cc.GradCAM),
    ],
    ids=["(N, W)", "(N, T, W)", "(N, H, W, C)", "(N, T, H, W, C)", "frames"],
)
def test_inputs_of_any_rank_by_keyword(make: Any, shape: tuple[int, ...], method: Any) -> None:
    model, x, hot = make(), samples(shape, 3), np.eye(3, dtype=np.float32)[[2, 0, 1]]
    explainer = method(model, output_layer=None, batch_size=2, operator=None, conv_layer=None)
    explanation = explainer.explain(x, hot)
    grid = shape if len(shape) == 1 else shape[:-1]
    assert np.asarray(explanation).shape == (3, *grid)
    np.testing.assert_allclose(
        explanation.scores[:, 0], (outputs(model, x) * hot).sum(1), rtol=1e-4, atol=1e-6
    )
    one_by_one = [method(model).explain(x[i : i + 1], int(hot[i].argmax())).maps for i in range(3)]
    np.testing.assert_allclose(explanation.maps, np.concatenate(one_by_one), rtol=1e-4, atol=1e-6)


@streams
def test_a_dataset_is_consumed_batch_by_batch() -> None:
    import tensorflow as tf

    model, x, y = cnn(), samples((16, 16, 3), 5), np.array([0, 1, 2, 3, 4])
    expected = cc.GradCAM(model).explain(x, y).maps
    pairs = tf.data.Dataset.from_tensor_slices((x, np.eye(5, dtype=np.float32)[y]))
    for dataset, targets in ((pairs.batch(2).prefetch(1), None), (pairs.map(lambda a, b: a).batch(2), y)):
        np.testing.assert_allclose(
            cc.GradCAM(model).explain(dataset, targets).maps, expected, rtol=1e-5, atol=1e-7
        )
    endless = pairs.repeat().batch(2)
    first = list(itertools.islice(cc.GradCAM(model).explain_batches(endless), 2))
    np.testing.assert_allclose(np.concatenate([e.maps for e in first]), expected[:4], rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match=r"never ends.*take"):
        cc.GradCAM(model).explain(endless)
    with pytest.raises(InputError, match=r"never ends.*take"):
        cc.explain(model, endless)
    with pytest.raises(InputError, match="no batch"):
        cc.GradCAM(model).explain(pairs.take(0).batch(2))
    with pytest.raises(InputError, match=r"dataset\.batch"):
        cc.GradCAM(model).explain(pairs)
    with pytest.raises(TargetError, match="targets"):
        cc.GradCAM(model).explain(pairs.map(lambda a, b: a).batch(2), y[:4])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"conv_layer": "conv3"}, LayerError, "`conv1`"),
        ({"conv_layer": "gap"}, LayoutError, "no grid"),
        ({"conv_layer": 99}, LayerError, "top-level layers"),
        ({"conv_layer": L.Conv2D(1, 1)}, LayerError, "is not a layer of this Sequential"),
        ({"output_layer": "haed"}, LayerError, "`head`"),
        ({"conv_layer": "relu#3"}, LayerError, "was not called"),
    ],
)
def test_errors_name_the_next_step(options: dict[str, Any], error: type[ChronocamError], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        np.asarray(cc.GradCAM(cnn(), **options).explain(samples((16, 16, 3)), 1))
    assert "\n" not in str(raised.value)


def test_errors_of_nested_names_list_near_ones() -> None:
    with pytest.raises(LayerError, match="`backbone/branch`"):
        cc.GradCAM(transfer(), "brunch")
    with pytest.raises(LayerError, match="`backbone/branch`"):
        cc.GradCAM(transfer(), "backbone/branhc")


@pytest.mark.parametrize(
    ("x", "targets", "error", "words"),
    [
        (samples((16, 16, 3))[0], 1, InputError, r"inputs\[None\]"),
        (samples((16, 12, 3)), 1, InputError, r"expected \(batch, 16, 16, 3\)"),
        (samples((16, 16, 3)).astype(str), 1, InputError, "expected numbers"),
        (samples((16, 16, 3)), np.eye(4, dtype=np.float32)[:2], TargetError, "4 columns"),
        (samples((16, 16, 3)), [0, 1, 2], TargetError, "length 3"),
        (samples((16, 16, 3)), 5, TargetError, "no class 5"),
    ],
)
def test_errors_of_inputs_and_targets(
    x: np.ndarray, targets: Any, error: type[ChronocamError], words: str
) -> None:
    with pytest.raises(error, match=words):
        cc.GradCAM(cnn()).explain(x, targets)


class Unsaid(keras.Model):
    """Says nothing of the inputs that it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = L.Conv2D(4, 3, name="conv"), L.Dense(3)

    def call(self, x: Any) -> Any:
        return self.head(keras.ops.reshape(self.conv(x), (-1, 4 * 6 * 6)))


def of_two() -> Any:
    image, numbers = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="numbers")
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="conv")(image))
    return keras.Model({"image": image, "numbers": numbers}, L.Dense(3)(pooled + L.Dense(4)(numbers)))


@pytest.mark.parametrize(
    ("named", "inputs", "words"),
    [
        (False, samples((9, 9, 3)), ["the model fails on inputs float32 (…, 9, 9, 3)", "frames="]),
        (False, samples((8, 8, 1)), ["fails on inputs float32 (…, 8, 8, 1)", "ValueError: Input 0"]),
        (False, {"image": samples((8, 8, 3))}, ["the model fails on inputs `image` float32"]),
        (True, {"image": samples((8, 8, 3))}, ["by the names `image`; expected `image`, `numbers`"]),
        (True, {"image": samples((8, 8, 3)), "numbers": samples((5,))}, ["(2, 5); expected (batch, 4)"]),
        (
            True,
            (samples((8, 8, 3)), samples((4,))[:1].repeat(3, 0)),
            ["fails on inputs float32 (…, 8, 8, 3), float32"],
        ),
    ],
)
def test_inputs_that_do_not_fit_are_told_in_one_line(named: bool, inputs: Any, words: list[str]) -> None:
    model = of_two() if named else Unsaid()
    if not named:
        model(samples((8, 8, 3)))
    with pytest.raises(InputError) as error:
        cc.GradCAM(model, "conv").explain(inputs, 1)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("on", [None, 0, 1, "second"])
@pytest.mark.parametrize("names", [("first", "second"), ("later", "second"), None])
def test_maps_at_one_of_several_inputs(names: tuple[str, str] | None, on: Any) -> None:
    one, other = keras.Input((4, 4, 3), name="first"), keras.Input((4, 4, 3), name="second")
    products = L.Multiply()([L.Flatten()(one), L.Flatten()(other)])
    given = [one, other] if names is None else dict(zip(names, (one, other), strict=True))
    model = drawn(keras.Model(given, L.Dense(3, use_bias=False, name="head")(products)))
    a, b = samples((4, 4, 3)), samples((4, 4, 3)) + 1
    inputs: Any = (a, b) if names is None else dict(zip(names, (a, b), strict=True))
    kernel = model.get_layer("head").get_weights()[0][:, 1].reshape(4, 4, 3)
    gradient = kernel * (a if on in (1, "second") else b)
    explanation = cc.Saliency(model, on=on, reduce="sum").explain(inputs, 1)
    np.testing.assert_allclose(explanation.maps[:, 0], gradient.sum(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [None, "backbone", "backbone/conv"])
@pytest.mark.parametrize(("on", "sign"), [(0, 1), (1, -1)])
def test_calls_of_a_shared_backbone_are_told_by_their_input(layer: str | None, on: int, sign: int) -> None:
    image, one, other = (keras.Input((8, 8, 3)) for _ in range(3))
    convolved = L.Conv2D(4, 3, activation="relu", name="conv")(image)
    backbone, head = keras.Model(image, convolved, name="backbone"), L.Dense(3)
    pooled = [L.GlobalAveragePooling2D()(backbone(x)) for x in (one, other)]
    model = drawn(keras.Model([one, other], head(L.Subtract()(pooled))))
    x = samples((8, 8, 3)), samples((8, 8, 3)) + 1
    kernel = keras.ops.convert_to_numpy(head.kernel)[:, 1]
    found = cc.GradCAM(model, layer, on=on, signed=True).explain(x, 1)
    expected = sign * (outputs(backbone, x[on]) @ kernel) / 36
    np.testing.assert_allclose(found.maps[:, 0], expected, rtol=1e-3, atol=1e-6)


def test_models_without_shapes_are_refused() -> None:
    with pytest.raises(ModelError, match="not built"):
        cc.GradCAM(keras.Sequential([L.Conv2D(2, 3), L.Flatten(), L.Dense(2)]))


def test_what_is_for_pytorch_models_only_says_so() -> None:
    clip = samples((4, 12, 12, 3))
    with pytest.raises(InputError, match="chunk_frames"):
        cc.GradCAM(frames_lstm(), "frames/cnn/conv2", chunk_frames=2).explain(clip, 1)
    with pytest.raises(ChronocamError, match="attention"):
        cc.AttentionRollout(cnn(), "relu").explain(samples((16, 16, 3)))


def test_whole_numbers_are_inputs_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), np.uint8)
    maps = [cc.Saliency(cnn()).explain(x, 1).maps for x in (pixels, pixels.astype(np.float32))]
    np.testing.assert_array_equal(*maps)


def test_noisy_methods_explain_the_class_of_the_clean_input() -> None:
    model, x = cnn(), samples((16, 16, 3))
    clean = cc.Saliency(model).explain(x)
    noisy = cc.SmoothGrad(model, noise=3.0, samples=3).explain(x)
    assert [row[0].index for row in noisy.targets] == [row[0].index for row in clean.targets]
    still = cc.SmoothGrad(model, noise=0.0, samples=3).explain(x)
    np.testing.assert_allclose(still.maps, clean.maps, rtol=1e-5)


class Pyramid(keras.layers.Layer):
    """Two levels of a picture, as a dict or a tuple."""

    def __init__(self, keyed: bool, **options: object) -> None:
        super().__init__(**options)
        self.keyed = keyed
        self.fine = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="fine")
        self.coarse = keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="coarse")

    def build(self, shape: tuple[int, ...]) -> None:
        self.fine.build(shape)
        self.coarse.build((*shape[:-1], 4))

    def call(self, x: Any) -> Any:
        fine = self.fine(x)
        levels = {"p3": fine, "p4": self.coarse(fine)}
        return levels if self.keyed else tuple(levels.values())


@pytest.mark.parametrize(("keyed", "layer"), [(True, "fpn[p4]"), (True, "fpn[1]"), (False, "fpn[1]")])
def test_one_of_several_outputs_is_named_by_index_or_key(keyed: bool, layer: str) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    levels = Pyramid(keyed, name="fpn")(inputs)
    levels = list(levels.values()) if keyed else levels
    pooled = [keras.layers.GlobalAveragePooling2D()(one) for one in levels]
    heads = [keras.layers.Dense(3, name=f"head{k}")(one) for k, one in enumerate(pooled)]
    model = keras.Model(inputs, keras.layers.Add()(heads))
    x = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    coarse = keras.ops.convert_to_numpy(keras.Model(inputs, levels[1])(x))
    weights = keras.ops.convert_to_numpy(model.get_layer("head1").kernel)[:, 2] / 64
    hand = (coarse * weights).sum(-1)
    explanation = cc.HiResCAM(model, layer, signed=True).explain(x, 2)
    assert explanation.layer == layer
    np.testing.assert_allclose(explanation.maps[:, 0], hand, atol=1e-5)
    # The score falls by 64 times weight times mean where a channel is gone.
    falls = 64 * weights * coarse.mean((1, 2), keepdims=True)
    ablated = cc.AblationCAM(model, layer, signed=True).explain(x, 2)
    by_hand = (falls * coarse).sum(-1)
    np.testing.assert_allclose(
        ablated.maps[:, 0] * np.abs(ablated.scores)[:, :, None], by_hand, atol=1e-4 * np.abs(by_hand).max()
    )
    with pytest.raises(LayerError) as error:
        cc.GradCAM(model, "fpn[p9]").explain(x, 2)
    one_line(error, "no output `[p9]`", "[0]" if not keyed else "[p3]")
