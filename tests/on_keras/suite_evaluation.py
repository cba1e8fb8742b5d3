"""Methods on Keras models are judged like others, and the model keeps its weights."""

import keras
import numpy as np

import chronocam as cc


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))


def test_an_evaluation_has_values_of_methods_and_controls_and_leaves_the_weights():
    model = network()
    before = [np.array(values) for values in model.get_weights()]
    x = np.random.default_rng(0).normal(size=(3, 12, 12, 3)).astype(np.float32)
    masks = np.zeros((3, 12, 12), bool)
    masks[:, 3:7, 3:7] = True
    result = cc.evaluate(model, x, 1, measures=["deletion", "energy", "randomisation"], truth=masks)
    assert [row.method for row in result.rows if row.control] == ["random", "centre", "edges", "randomised"]
    assert result.failures == ()
    energy = result.measures[1]
    maps = cc.GradCAM(model).explain(x, 1).upsample()[:, 0]
    np.testing.assert_allclose(
        result.values(result.rows[0], energy), cc.metrics.energy_inside(maps, masks), rtol=1e-4
    )

    def probability(changed):
        return np.asarray(keras.ops.convert_to_numpy(model(changed)))[:, 1]

    curve = cc.metrics.deletion(probability, x[:1], maps[:1], channels=-1, steps=10)
    assert abs(result.values(result.rows[0], result.measures[0])[0] - curve.area[0]) < 1e-4
    # Other weights give the control other maps than those of the model.
    randomised = next(row for row in result.rows if row.method == "randomised")
    assert not np.allclose(result.values(randomised, energy), result.values(result.rows[0], energy))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
