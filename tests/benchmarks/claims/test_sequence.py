"""Claims about relevance over steps: measures on planted profiles, and the page of a small run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.claims.page import DOCS
from benchmarks.claims.sequence import measures
from benchmarks.claims.sequence.__main__ import main
from benchmarks.claims.sequence.claims import PAGE
from benchmarks.claims.tables import Record
from chronocam.metrics import Interval


def explanation(steady):
    return SimpleNamespace(steady_state=lambda: np.array([steady]))


def test_references_are_mean_directions_of_a_class_and_cosines_are_taken_with_them():
    planted = [explanation([3.0, 0, 0]), explanation([0, 0.1, 0]), explanation([0, 0, 5.0])]
    reference = measures.references(planted, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(reference, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]])
    cosines = measures.alike(np.array([[2.0, 2.0, 0], [0, -1.0, 0], [0, 0, 0]]), reference)
    np.testing.assert_allclose(cosines, [[1, 0], [-(0.5**0.5), 0], [0, 0]], atol=1e-12)


def test_a_change_is_measured_from_before_the_cut_to_the_end(monkeypatch):
    """Profiles that are those of the first class before the cut and of the second after it, logits alike."""
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
    table, curves, relevance = measures.change(SimpleNamespace(model=None, labels=("a", "b")), pairs, others)
    assert table["steps before the change named right"]["mean"].mean == 1
    assert table["steps at the end named right"]["mean"].mean == 1
    assert table["relevance for the first class: before − at the end"]["mean"].mean == 1
    assert table["relevance for the second class: at the end − before"]["mean"].mean == 1
    assert table["frames after the change until the second class leads"]["mean"].mean == 2
    np.testing.assert_allclose(curves[0, :, [0, 15]], [[1, 0], [0, 1]])
    np.testing.assert_array_equal(relevance, [steps, steps])


def test_words_follow_from_the_intervals():
    def row(first, last, rest):
        parts = {"first quarter": first, "last quarter": last, "last quarter, other classes": rest}
        cells = {name: Interval(mean, mean - 0.1, mean + 0.1, 9) for name, mean in parts.items()}
        return cells | {"class of the nearest": Interval(last, 0.0, 1.0, 9)}

    tables = {"settling": {"lrp": row(0.0, 0.5, 0.0), "gradient": row(0.45, 0.5, 0.45)}}
    rises, own, *_ = (claim.finding(tables) for claim in PAGE.claims["settling"])
    assert rises.endswith("yes for lrp; the intervals overlap for gradient.")
    assert own.endswith("yes for lrp; the intervals overlap for gradient.")


@pytest.mark.slow
def test_the_page_and_its_pictures(tmp_path):
    threads = torch.get_num_threads()
    (tmp_path / "images").mkdir()
    ran = CliRunner().invoke(main, ["--clips", "10", "--out", str(tmp_path)])
    torch.set_num_threads(threads)
    assert ran.exit_code == 0, ran.output
    text = (tmp_path / "sequence.md").read_text(encoding="utf-8")
    assert "{" not in text
    numbers = Record.from_json((tmp_path / "sequence.json").read_text(encoding="utf-8"))
    committed = Record.from_json((DOCS / "sequence.json").read_text(encoding="utf-8"))
    assert text == PAGE.text(numbers)
    assert {name: list(rows) for name, rows in numbers.tables.items()} == {
        name: list(rows) for name, rows in committed.tables.items()
    }
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "steps-settling.png",
        "steps-change.png",
    }
