"""Targets that are no class: what is explained of a sample is what changed inputs are scored for."""

import numpy as np
import pytest
import torch
from detectors import Spots, two_spots
from PIL import Image
from torch import nn

import chronocam as cc
from chronocam.joint.look.facts import facts_of, share_facts
from chronocam.joint.scores import fixed_target, scores_of


@pytest.fixture
def photo(tmp_path):
    """A red and a green spot, as a file."""
    path = tmp_path / "spots.png"
    pixels = (two_spots()[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    return str(path)


def as_array(image):
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


def test_boxes_of_one_picture_are_judged_each_for_itself(photo):
    model = Spots().eval()
    x = as_array(Image.open(photo))[None]
    found = cc.detect(model, torch.from_numpy(x), 0.3)
    assert [one.label for one in found] == ["red", "green"]
    boxes = [tuple(one.box) for one in found]
    result = cc.evaluate(
        model,
        [photo, photo],
        [cc.targets.Boxes(one) for one in found],
        methods=["gradcam"],
        measures=["energy", "drop", cc.evaluation.Deletion(steps=4, baseline="black")],
        truth=[[box] for box in boxes],
        preprocess=as_array,
    )
    # The box is 36 pixels of 1,024; on the grid of cells of 4 × 4 the map is on its own alone.
    assert (result.values(result.rows[0], result.measures[0]) > 0.4).all()
    # A held box has no probability in changed inputs: its score is judged.
    assert result.notes == ("drop judged nothing: it has no value for these inputs and targets",)
    for k, one in enumerate(found):
        map_ = cc.GradCAM(model).explain(torch.from_numpy(x), cc.targets.Boxes(one)).upsample()[:, 0]

        def score(changed, one=one):
            row = model(torch.from_numpy(changed))[:, one.row]
            return (row[:, 4].sigmoid() * row[:, 5 + one.index].sigmoid()).log().detach().numpy()

        curve = cc.metrics.deletion(score, x, map_, steps=4, baseline="black", seed=0)
        stored = result.samples[k]["values"][result.rows[0]]["deletion"]
        np.testing.assert_allclose(stored[1], curve.scores[0], rtol=1e-5)
        # Without the spot the score falls; that of the other box would not.
        assert curve.scores[0][1] < curve.scores[0][0] - 5


def test_a_box_is_explained_in_every_change_and_under_random_weights():
    model, x = Spots().eval(), two_spots().numpy()
    (first, *_) = cc.detect(model, torch.from_numpy(x[:1]), 0.3)
    target = fixed_target(cc.Saliency(model), x[:1], cc.targets.Boxes(first)).target
    changed = np.concatenate([x[:1], 0 * x[:1], x[1:]])
    scores = scores_of(cc.Saliency(model), changed, target).values[:, 0]
    rows = model(torch.from_numpy(changed))[:, first.row]
    by_hand = (rows[:, 4].sigmoid() * rows[:, 5 + first.index].sigmoid()).log()
    np.testing.assert_allclose(scores, by_hand.detach().numpy(), rtol=1e-5)
    random = cc.metrics.random_copy(model, 2, seed=1)
    assert np.isfinite(cc.GradCAM(random).explain(x, target).maps).all()


class Pixels(nn.Module):
    """Two classes of every pixel: red, and not so."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(4, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(4, 3)[..., None, None])
            self.conv.bias.zero_()
            self.head.weight.copy_(torch.tensor([[-4.0, 0, 0, 0], [4, -1, 0, 0]])[..., None, None])

    def forward(self, x):
        return self.head(self.relu(self.conv(x)))


def test_a_region_is_that_of_the_unchanged_picture():
    model, x = Pixels().eval(), two_spots()[1:].numpy()
    target = cc.targets.Region.predicted(1)
    own = fixed_target(cc.Saliency(model), x, target)
    changed = np.concatenate([x, np.roll(x, 9, axis=3)])
    scores = scores_of(cc.Saliency(model), changed, own.target, own.clean).values[:, 0]
    region = model(torch.from_numpy(x))[0].argmax(0) == 1
    by_hand = model(torch.from_numpy(changed))[:, 1][:, region].mean(1)
    np.testing.assert_allclose(scores, by_hand.detach().numpy(), rtol=1e-5)
    assert scores[1] < scores[0]


def test_an_output_that_is_no_class_has_no_probability():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    model = nn.Sequential(*layers).eval()
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    result = cc.evaluate(
        model, x, cc.targets.Regression(index=1), measures=["drop", cc.evaluation.Deletion(steps=2)]
    )
    assert result.notes == ("drop judged nothing: it has no value for these inputs and targets",)
    stored = result.samples[1]["values"][result.rows[0]]["deletion"]
    assert stored[1][0] == pytest.approx(model(torch.from_numpy(x[1:])).detach()[0, 1].item(), rel=1e-5)


def test_a_copy_with_other_weights_knows_what_is_known_of_the_model():
    model, copy, other = Spots(), Spots(), Spots()
    facts_of(model, "state").keep("where", 3)
    share_facts(model, copy)
    assert facts_of(copy, "state").known("where") == 3
    assert facts_of(other, "state").known("where") is None
