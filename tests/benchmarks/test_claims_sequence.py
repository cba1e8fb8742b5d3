"""The benchmark of relevance over steps: its measures on planted profiles, and the words that follow from intervals."""

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import torch
from click.testing import CliRunner

from chronocam.metrics.intervals import Interval


def explanation(steady):
    return SimpleNamespace(steady_state=lambda: np.array([steady]))


def test_references_are_mean_directions_of_a_class_and_cosines_are_taken_with_them():
    claims = import_module("benchmarks.claims.sequence.__main__")
    planted = [explanation([3.0, 0, 0]), explanation([0, 0.1, 0]), explanation([0, 0, 5.0])]
    reference = claims.references(planted, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(reference, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]])
    found = claims.alike(np.array([[2.0, 2.0, 0], [0, -1.0, 0], [0, 0, 0]]), reference)
    np.testing.assert_allclose(found, [[1, 0], [-(0.5**0.5), 0], [0, 0]], atol=1e-12)


def test_a_change_is_measured_from_before_the_cut_to_the_end(monkeypatch):
    """Profiles that are those of the first class before the cut and of the second after it, logits alike."""
    claims = import_module("benchmarks.claims.sequence.__main__")
    first, second = np.eye(2)
    steps = np.array([first] * 8 + [second] * 8)
    logits = np.concatenate([np.tile([1.0, 0], (10, 1)), np.tile([0, 1.0], (6, 1))])
    pairs = SimpleNamespace(
        labels=np.array([[0, 1]]),
        logits=logits[None],
        explained=lambda model, method, part: [SimpleNamespace(own=lambda: steps[None])],
    )
    others = SimpleNamespace(
        labels=np.array([[0], [1]]), explained=lambda model, method: [explanation(first), explanation(second)]
    )
    figures, curves, relevance = claims.change(SimpleNamespace(model=None, labels=("a", "b")), pairs, others)
    assert figures["steps before the change named right"].mean == 1
    assert figures["steps at the end named right"].mean == 1
    assert figures["relevance for the first class: before − at the end"].mean == 1
    assert figures["relevance for the second class: at the end − before"].mean == 1
    assert figures["frames after the change until the second class leads"].mean == 2
    np.testing.assert_allclose(curves[0, :, [0, 15]], [[1, 0], [0, 1]])
    np.testing.assert_array_equal(relevance, [steps, steps])


def test_words_follow_from_the_intervals():
    claims = import_module("benchmarks.claims.sequence.__main__")

    def row(first, last, rest):
        parts = {"first quarter": first, "last quarter": last, "last quarter, other classes": rest}
        found = {name: Interval(mean, mean - 0.1, mean + 0.1, 9) for name, mean in parts.items()}
        return found | {"class of the nearest": Interval(last, 0.0, 1.0, 9)}

    text = claims._settling_words({"lrp": row(0.0, 0.5, 0.0), "gradient": row(0.45, 0.5, 0.45)})
    assert "for lrp; in the last quarter" in text
    assert "than of others for lrp." in text
    assert "best with lrp: 0.500" in text


def test_the_page_and_its_pictures(tmp_path):
    claims = import_module("benchmarks.claims.sequence.__main__")
    threads = torch.get_num_threads()
    (tmp_path / "images").mkdir()
    found = CliRunner().invoke(claims.main, ["--clips", "10", "--out", str(tmp_path)])
    torch.set_num_threads(threads)
    assert found.exit_code == 0, found.output
    text = (tmp_path / "sequence.md").read_text()
    assert "{" not in text
    assert text.count("\n| ---") == 3
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "steps-settling.png",
        "steps-change.png",
    }
