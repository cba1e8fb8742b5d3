"""The numbers of quantus on fixed maps, which `tests/evaluation/test_quantus.py` compares with our own.

quantus asks for versions of its own, so it is run in an environment of its own, which has torch too:

    python -m venv quantus && quantus/bin/pip install quantus torch
    quantus/bin/python benchmarks/quantus_oracle.py

Writes `tests/evaluation/quantus.json`: inputs, maps, weights, and for each measure what quantus says. It
imports nothing of chronocam.
"""

from __future__ import annotations

import contextlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import quantus
import torch
from quantus.functions.complexity_func import discrete_entropy
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.functions.similarity_func import correlation_spearman, difference

OUT = Path(__file__).resolve().parents[1] / "tests/evaluation/quantus.json"
SIDE, HIDDEN, TARGET = 8, 5, 1
RNG = np.random.default_rng(7)
ALIKE = {"abs": False, "normalise": False, "disable_warnings": True}


def network() -> torch.nn.Module:
    """Return two logits of a tanh layer."""
    torch.manual_seed(0)
    first, second = torch.nn.Linear(SIDE * SIDE, HIDDEN), torch.nn.Linear(HIDDEN, 2)
    for layer in (first, second):
        # Few digits, so that the file is short.
        layer.weight.data = torch.round(3 * layer.weight.data, decimals=3)
        layer.bias.data = torch.round(layer.bias.data, decimals=3)
    return torch.nn.Sequential(torch.nn.Flatten(), first, torch.nn.Tanh(), second).eval()


def explain(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
    """Return gradient × input."""
    x = torch.tensor(np.asarray(inputs), dtype=torch.float32, requires_grad=True)
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(x)), torch.as_tensor(targets)].sum(), x)
    return (gradient * x).detach().numpy()


class Explaining:
    """Explains, and keeps the maps."""

    def __init__(self) -> None:
        self.maps: list[np.ndarray] = []

    def __call__(self, model: Any, inputs: np.ndarray, targets: np.ndarray, **options: Any) -> np.ndarray:
        self.maps.append(explain(model, inputs, targets))
        return self.maps[-1]


Said: TypeAlias = dict[str, Any]
"""What quantus returns, by name."""


def main() -> None:
    net = network()
    x = RNG.normal(size=(1, 1, SIDE, SIDE)).round(3).astype(np.float32)
    y = np.array([TARGET])
    a = explain(net, x, y)
    mask = np.zeros((1, 1, SIDE, SIDE), bool)
    mask[:, :, 2:6, 1:5] = True
    given = {"model": net, "x_batch": x, "y_batch": y, "a_batch": a, "device": "cpu"}
    noise = RNG.uniform(-0.02, 0.02, (10, SIDE * SIDE)).round(4).astype(np.float32)
    gone = np.flatnonzero(RNG.random(SIDE * SIDE) < 0.6)
    said: Said = {
        "version": version("quantus"),
        **of_maps(given, mask),
        **of_scores(given),
        **of_changes(given, noise),
        **of_random_weights(given),
        **of_road(given, gone),
        "infidelity_changed": changed_by_infidelity(net, x, y, a),
    }
    linear = [net[k].state_dict() for k in (1, 3)]
    record = {
        **said,
        "x": x, "map": a, "mask": mask, "noise": noise, "gone": gone,
        "weights": [layer["weight"] for layer in linear], "biases": [layer["bias"] for layer in linear],
    }  # fmt: skip
    OUT.write_text(json.dumps(record, default=plain, indent=None) + "\n", encoding="utf-8")
    print({name: value for name, value in said.items() if np.size(value) < 12})


def of_maps(given: Said, mask: np.ndarray) -> Said:
    """Return what is said of the map alone, and of the map beside a mask."""
    a, said = given["a_batch"], dict[str, Any]()
    said["sparseness"] = quantus.Sparseness(**ALIKE | {"abs": True})(**given)
    said["entropy_of_shares"] = quantus.Complexity(**ALIKE | {"abs": True})(**given)
    said["pointing"] = np.asarray(quantus.PointingGame(**ALIKE)(**given, s_batch=mask)).astype(float)
    inside = quantus.AttributionLocalisation(positive_attributions=True, **ALIKE)
    said["energy"] = inside(**given, s_batch=mask)
    said["focus"] = quantus.Focus(**ALIKE).evaluate_batch(a_batch=a, c_batch=[(1, 0, 0, 1)])
    said["entropy_of_values"] = discrete_entropy(a, given["x_batch"], n_bins=100)
    return said


def of_scores(given: Said) -> Said:
    """Return what is said of scores as values are taken away."""
    said: Said = {}
    flipping = quantus.PixelFlipping(features_in_step=8, perturb_baseline=0.0, **ALIKE)
    said["flipping"] = flipping(**given, softmax=True)
    np.random.seed(3)  # noqa: NPY002 - quantus draws from it
    correlation = quantus.FaithfulnessCorrelation(
        similarity_func=correlation_spearman, nr_runs=40, subset_size=12, perturb_baseline=0.0,
        return_aggregate=False, **ALIKE,
    )  # fmt: skip
    said["faithfulness_correlation"] = correlation(**given, softmax=False)
    return said


def of_changes(given: Said, noise: np.ndarray) -> Said:
    """Return what is said of maps of noisy inputs, and of another class."""
    said: Said = {}
    for name, sensitivity in (("avg", quantus.AvgSensitivity), ("max", quantus.MaxSensitivity)):
        draws = iter(noise)
        metric = sensitivity(
            nr_samples=10,
            similarity_func=difference,
            perturb_func=lambda arr, draws=draws, **_: arr + next(draws),
            **ALIKE,
        )
        said[f"{name}_sensitivity"] = metric(**given, explain_func=explain)
    said["random_logit"] = quantus.RandomLogit(num_classes=2, similarity_func=correlation_spearman, **ALIKE)(
        **given, explain_func=explain
    )
    return said


def of_random_weights(given: Said) -> Said:
    """Return what is said of maps as weights are made random, and those maps."""
    said: Said = {}
    for order in ("top_down", "independent"):
        keeping = Explaining()
        metric = quantus.MPRT(similarity_func=correlation_spearman, layer_order=order, **ALIKE)
        said[f"mprt_{order}"] = list(metric(**given, explain_func=keeping).values())
        said[f"mprt_{order}_maps"] = np.stack(keeping.maps[-2:])
    keeping = Explaining()
    metric = quantus.EfficientMPRT(layer_order="top_down", complexity_func_kwargs={"n_bins": 100}, **ALIKE)
    said["efficient_mprt"] = metric(**given, explain_func=keeping)
    said["efficient_mprt_maps"] = keeping.maps[-1]

    smooth = quantus.SmoothMPRT(nr_samples=3, similarity_func=correlation_spearman, **ALIKE)
    said["smooth_mprt_of_itself"] = smooth(**given, explain_func=explain)["original"][0]
    return said


def of_road(given: Said, gone: np.ndarray) -> Said:
    """Return how ROAD fills in what is gone, and which error it ends in for colours."""
    x, y, a = (given[f"{name}_batch"] for name in "xya")
    said: Said = {"imputed": noisy_linear_imputation(x[0], gone, noise=0.0)}
    colour = np.repeat(x, 3, axis=1)
    three = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, 2)).eval()
    try:
        quantus.ROAD(percentages=[50], **ALIKE)(three, colour, y, a_batch=a, device="cpu")
        said["road_of_colours"] = ""
    except Exception as error:
        said["road_of_colours"] = type(error).__name__
    return said


def changed_by_infidelity(net: Any, x: np.ndarray, y: np.ndarray, a: np.ndarray) -> list[int]:
    """Return how many values differ from the input at each of the first patches that are taken away."""
    seen: list[np.ndarray] = []

    class Watching(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs.detach().numpy().reshape(-1))
            return net(inputs.reshape(-1, 1, SIDE, SIDE))

    metric = quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=1, **ALIKE)
    with contextlib.suppress(Exception):
        metric(model=Watching().eval(), x_batch=x, y_batch=y, a_batch=a, device="cpu")
    return [int((one != x.reshape(-1)).sum()) for one in seen[-4:]]


def plain(value: Any) -> Any:
    """Return an array as lists, of numbers with seven digits."""
    value = np.asarray(value)
    if value.dtype.kind in "bi":
        return value.astype(int).tolist()
    return np.vectorize(lambda number: float(f"{number:.7g}"))(value).tolist()


if __name__ == "__main__":
    main()
