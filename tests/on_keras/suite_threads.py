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
