"""One Keras model in several threads: maps and predictions are those of one thread."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from helpers import run_together
from networks import cnn, samples, transfer

import chronocam as cc

THREADS = 8
CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...], Callable[[Any], Any]]] = {
    "sequential": (cnn, (16, 16, 3), lambda model: cc.GradCAM(model, "conv1")),
    "functional": (transfer, (16, 16, 3), lambda model: cc.LayerCAM(model, "backbone/add")),
}


def explains_and_predicts(case: str, explaining: int, predicting: int, calls: int) -> None:
    make, shape, bind = CASES[case]
    model = make()
    inputs = [samples(shape)[:1] + i for i in range(THREADS)]
    alone = make()  # so that the threads find nothing compiled
    method = bind(alone)
    expected = [method.explain(x, i % 3).maps for i, x in enumerate(inputs)]
    predictions = [keras.ops.convert_to_numpy(alone(x)) for x in inputs]

    def explains(i: int) -> None:
        one = bind(model)
        for _ in range(calls):
            found = one.explain(inputs[i], i % 3).maps
            np.testing.assert_allclose(found, expected[i], rtol=1e-4, atol=1e-5 * np.abs(expected[i]).max())

    def predicts(i: int) -> None:
        for _ in range(calls):
            found = keras.ops.convert_to_numpy(model(inputs[i]))
            np.testing.assert_allclose(found, predictions[i], rtol=1e-6, atol=1e-7)

    run_together(
        *(lambda i=i: explains(i) for i in range(explaining)),
        *(lambda i=i: predicts(i) for i in range(predicting)),
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("explaining", "predicting"), [(8, 0), (4, 4)])
def test_threads_do_not_meet(case: str, explaining: int, predicting: int) -> None:
    explains_and_predicts(case, explaining, predicting, 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("explaining", "predicting"), [(8, 0), (4, 4)])
def test_threads_do_not_meet_in_a_thousand_calls(case: str, explaining: int, predicting: int) -> None:
    explains_and_predicts(case, explaining, predicting, 1000 // THREADS)


TOGETHER = {
    "gradients": ("gradcam", "shapleycam", "guidedgradcam", "smoothgrad", "fullgrad"),
    "tails and masks": ("ablationcam", "scorecam", "visualbackprop", "kpcacam", "rise", "lime"),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_methods_do_not_meet(case: str) -> None:
    """Explain one model, which nothing is known of yet, by another method in each thread."""
    model, x = cnn(), samples((16, 16, 3))[:1]

    def explain(name: str, model: Any) -> np.ndarray:
        options = {"budget": 32} if name in ("rise", "lime") else {}
        return cc.methods.METHODS[name](model, **options).explain(x, 1).maps

    expected = {name: explain(name, cnn()) for name in TOGETHER[case]}

    def same(name: str) -> None:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(explain(name, model), expected[name], rtol=1e-3, atol=1e-4 * scale)

    run_together(*(lambda name=name: same(name) for name in expected))


def test_threads_may_share_a_method() -> None:
    model, sizes = cnn(), (1, 2, 3)
    inputs = [samples((16, 16, 3))[:1].repeat(sizes[k % 3], 0) + k for k in range(THREADS)]
    alone, shared = cc.GradCAM(cnn()), cc.GradCAM(model)
    expected = [alone.explain(x, 1).maps for x in inputs]

    def same(k: int) -> None:
        found, scale = shared.explain(inputs[k], 1).maps, np.abs(expected[k]).max()
        np.testing.assert_allclose(found, expected[k], rtol=1e-3, atol=1e-4 * scale)

    run_together(*(lambda k=k: same(k) for k in range(THREADS)))


def test_a_call_in_the_middle_of_an_explanation_is_the_models_own() -> None:
    model, x = cnn(), samples((16, 16, 3))
    expected, met = keras.ops.convert_to_numpy(model(x)), []

    def score(outputs: Any) -> Any:
        def predicts() -> None:
            met.append(np.abs(keras.ops.convert_to_numpy(model(x)) - expected).max() < 1e-6)

        run_together(predicts)
        return outputs[:, 1]

    cc.GuidedBackprop(model).explain(x, score)
    assert met
    assert all(met)


@pytest.mark.parametrize("case", CASES)
def test_a_deleted_model_is_collected(case: str) -> None:
    make, shape, bind = CASES[case]
    model = make()
    bind(model).explain(samples(shape), 1)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", [name for names in TOGETHER.values() for name in names])
def test_a_deleted_model_is_collected_whatever_explained_it(name: str) -> None:
    model = cnn()
    options = {"budget": 32} if name in ("rise", "lime") else {}
    kept = cc.methods.METHODS[name](model, **options).explain(samples((16, 16, 3))[:1], 1)
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None
    assert np.isfinite(kept.maps).all()
