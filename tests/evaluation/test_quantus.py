"""The numbers of quantus on fixed maps, and why ours are others where they are.

`benchmarks/quantus_oracle.py` makes the file, in an environment of quantus' own.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.test_measures import answered
from torch import nn

import chronocam as cc
from chronocam.evaluation import AskMaps, Deletion, Focus, MuFidelity, Randomisation
from chronocam.evaluation.case import Case
from chronocam.evaluation.measures import measure_named
from chronocam.evaluation.measures.base import Measure
from chronocam.evaluation.truth import truth_of
from chronocam.maps.impute import imputed

SAID = json.loads((Path(__file__).parent / "quantus.json").read_text(encoding="utf-8"))
X = np.array(SAID["x"], np.float32)[0]
MAP = np.array(SAID["map"], np.float32)[0, 0]
MASK = np.array(SAID["mask"], bool)[0, 0]


def network():
    layers = [nn.Linear(64, 5), nn.Linear(5, 2)]
    for layer, weight, bias in zip(layers, SAID["weights"], SAID["biases"], strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1]).eval()


def scored(x):
    with torch.no_grad():
        logits = network()(torch.from_numpy(x[None]).float())[0]
    return float(logits[1]), float(logits.softmax(0)[1])


def explained(x, index):
    inputs = torch.from_numpy(x[None]).requires_grad_()
    (gradient,) = torch.autograd.grad(network()(inputs)[0, index], inputs)
    return (gradient * inputs)[0, 0].detach().numpy()


def case():
    score, probability = scored(X)
    return Case(X, score, probability, 1, 2, truth_of(MASK, (8, 8)), seed=0)


def test_the_version_is_named():
    assert SAID["version"] == "0.6.0"
    np.testing.assert_allclose(explained(X, 1), MAP, atol=1e-5)


@pytest.mark.parametrize("name", ["sparseness", "pointing", "energy"])
def test_shape_and_place_are_those_of_quantus(name):
    assert answered(measure_named(name), case(), MAP) == pytest.approx(SAID[name][0], abs=1e-4)


def test_deletion_is_pixel_flipping():
    # Its curve begins after the first step, and its area is of points, not of shares.
    curve = answered(Deletion(steps=8, baseline=0.0), case(), MAP, scored)
    np.testing.assert_allclose(curve[1, 1:], SAID["flipping"][0], atol=1e-4)
    assert curve[1, 0] == pytest.approx(scored(X)[1])


def test_mufidelity_is_faithfulness_correlation_of_the_same_sets():
    drawn = np.random.RandomState(3)

    class Same(MuFidelity):
        def _drawn(self, rng, grid):
            one = np.zeros(64, bool)
            one[drawn.choice(64, 12, replace=False)] = True
            return one.reshape(8, 8)

    try:
        value = answered(Same(sets=40), case(), MAP, scored)
    finally:
        cc.evaluation.measures.base._MEASURES["mufidelity"] = MuFidelity
    assert value == pytest.approx(SAID["faithfulness_correlation"][0], abs=1e-4)


@pytest.mark.parametrize("name", ["avg_sensitivity", "max_sensitivity"])
def test_sensitivity_is_that_of_the_same_noise(name):
    noise = iter(np.array(SAID["noise"], np.float32).reshape(-1, 1, 8, 8))
    value = answered(measure_named(name), case(), MAP, maps=lambda x, ask: explained(X + next(noise), 1))
    assert value == pytest.approx(SAID[name][0], abs=1e-4)


def test_another_class_is_compared_as_by_quantus():
    value = answered(measure_named("random_logit"), case(), MAP, maps=lambda x, ask: explained(x, ask.other))
    assert value == pytest.approx(SAID["random_logit"][0], abs=1e-4)


@pytest.mark.parametrize("order", ["top_down", "independent"])
def test_randomisation_is_mprt_of_the_same_weights(order):
    random = iter(np.array(SAID[f"mprt_{order}_maps"], np.float32)[:, 0, 0])

    def maps(x, ask):
        return next(random) if isinstance(ask, AskMaps) and ask.random else MAP

    measure = Randomisation(shares=(0.5, 1.0), independent=order == "independent")
    theirs = [values[0] for values in SAID[f"mprt_{order}"]]
    assert theirs[0] == pytest.approx(1)  # its first entry is of the model itself
    # Ours are magnitudes: a map turned upside down by random weights has changed no less.
    assert answered(measure, case(), MAP, maps=maps) == pytest.approx(np.abs(theirs[1:]).mean(), abs=1e-4)


def test_efficient_randomisation_is_efficient_mprt_of_the_same_weights():
    random = np.array(SAID["efficient_mprt_maps"], np.float32)[0, 0]
    value = answered(measure_named("efficient_randomisation"), case(), MAP, maps=lambda x, ask: random)
    assert value == pytest.approx(SAID["efficient_mprt"][0], abs=1e-4)


def test_smooth_mprt_of_quantus_compares_a_map_that_is_not_smooth():
    # So even the model itself is unlike itself; ours takes means of noisy inputs on both sides.
    assert SAID["smooth_mprt_of_itself"] < 0.999
    smooth = Randomisation(shares=(1.0,), noises=4)
    same = answered(smooth, case(), MAP, maps=lambda x, ask: explained(x, 1))
    assert same == pytest.approx(1, abs=1e-6)


def test_focus_is_the_share_on_the_tiles_of_the_class():
    others = ((X + 10, 0), (X + 20, 0))
    for seed in range(40):
        asked = Focus().of(Case(X, 0, 0.5, 1, 2, None, seed=seed, others=others), MAP)
        tiles = next(asked).inputs[0].make().reshape(2, 4, 2, 4).mean(axis=(1, 3)) < 5
        if np.array_equal(tiles, np.eye(2)):  # as quantus was told that they are
            break
    with pytest.raises(StopIteration) as end:
        asked.send(MAP[None])
    assert end.value.value == pytest.approx(SAID["focus"][0], abs=1e-4)


def test_imputed_pixels_are_those_of_quantus():
    stays = np.ones(64, bool)
    stays[SAID["gone"]] = False
    theirs = np.array(SAID["imputed"]).reshape(1, 8, 8)
    np.testing.assert_allclose(imputed(X, stays.reshape(8, 8), 1e-7), theirs, atol=1e-4)


def test_complexity_is_another_one():
    # quantus takes the entropy of the shares of the magnitudes; ADCC the mean of the map scaled to [0, 1].
    shares = np.abs(MAP).ravel() / np.abs(MAP).sum()
    assert SAID["entropy_of_shares"][0] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-4)
    unit = (MAP - MAP.min()) / np.ptp(MAP)
    assert answered(measure_named("complexity"), case(), MAP) == pytest.approx(unit.mean(), abs=1e-6)


def test_road_of_quantus_takes_no_colours():
    # It indexes three channels with places of one; and it counts right answers, where ours takes scores.
    assert SAID["road_of_colours"] == "IndexError"
    assert isinstance(measure_named("road"), Measure)


def test_infidelity_of_quantus_takes_patches_away_one_after_the_other():
    # Patches of 16 that are meant to be taken away one at a time add up: one pixel has the baseline already.
    changed = SAID["infidelity_changed"]
    assert changed == [15, 31, 47, 63]
    hidden = []
    answered(measure_named("infidelity"), case(), MAP, lambda x: hidden.append((x != X).sum()) or scored(x))
    # Ours are drawn anew: about a fifth each time.
    assert 3 < np.mean(hidden) < 25
    assert np.mean(hidden[150:]) < 1.5 * np.mean(hidden[:50])
