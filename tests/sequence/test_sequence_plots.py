"""Plots of sequences: what each panel shows, read back from the figure."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chronocam.errors import InputError, MediaError
from chronocam.sequence import SequenceExplanation, load
from chronocam.targets.steps import StepInfo
from chronocam.types import TargetInfo

T, F = 12, 5


def every_step(batch: int = 1, features: int = F, ledger: bool = True) -> SequenceExplanation:
    """Relevance that looks back only, halves with each step, and keeps one profile from step 6 on."""
    rng = np.random.default_rng(0)
    profiles = rng.normal(size=(batch, T, features))
    profiles[:, 6:] = profiles[:, 6:7]
    lag = np.arange(T)[:, None] - np.arange(T)
    decay = np.where(lag >= 0, 0.5 ** np.maximum(lag, 0), 0.0)
    relevance = decay[None, :, :, None] * profiles[:, :, None]
    total = relevance.sum(axis=(2, 3))
    terms = {"input": total, "bias": np.full_like(total, -0.5)} if ledger else {}
    infos = tuple(StepInfo(f"$x^{t} at step {t}", 1, t, 1) for t in range(T))
    return SequenceExplanation(relevance, total - 0.5, (infos,) * batch, "lrp", terms)


def whole(targets: int) -> SequenceExplanation:
    relevance = np.random.default_rng(1).normal(size=(1, targets, T, F))
    infos = tuple(TargetInfo(f"class $\\{k}", k) for k in range(targets))
    return SequenceExplanation(relevance, relevance.sum(axis=(2, 3)), (infos,), "gradient")


def axes(figure: Any) -> dict[str, Any]:
    """Return the panels by the labels of their two axes."""
    return {f"{a.get_ylabel()} / {a.get_xlabel()}": a for a in figure.axes if a.get_xlabel()}


def image(axis: Any) -> np.ndarray:
    return np.asarray(axis.get_images()[0].get_array())


def test_many_steps_show_own_features_and_every_output_and_input_step() -> None:
    found = every_step(batch=2)
    panels = axes(found.plot(1))
    own = image(panels["feature / output step"])
    assert np.array_equal(own, found.own()[1].T)
    pairs = image(panels["output step / input step"])
    assert np.allclose(pairs, np.abs(found.relevance[1]).mean(axis=2))
    low, high = panels["feature / output step"].get_images()[0].get_clim()
    assert low == -high < 0


def test_settling_is_marked_where_it_settles() -> None:
    found = every_step()
    panel = axes(found.plot())["similarity to the steady state / output step"]
    settled = int(found.settling().settled[0])
    assert 0 < settled <= 6
    assert panel.get_title(loc="left") == f"Settled from step {settled} on"
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert np.allclose(lines["cosine"].get_ydata(), found.settling().similarity.cosine[0])
    assert np.allclose(lines["Spearman"].get_ydata(), found.settling().similarity.spearman[0])
    assert np.allclose(lines["chance (cosine)"].get_ydata(), found.settling().chance.cosine[0])
    assert np.allclose(lines["Jaccard"].get_ydata(), found.settling().similarity.jaccard[0])
    assert any(list(line.get_xdata()) == [settled, settled] for line in panel.get_lines())
    assert any(np.allclose(line.get_ydata(), 0.9) for line in panel.get_lines())


def test_horizon_shows_the_share_of_each_lag_and_how_far_it_reaches() -> None:
    found = every_step()
    panel = axes(found.plot())["share of |relevance| / lag (steps back)"]
    horizon = found.memory_horizon()
    shares = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in panel.patches}
    expected = dict(zip(horizon.lags.tolist(), horizon.share[0], strict=True))
    assert min(shares) == 0
    assert all(abs(share - expected[lag]) < 1e-12 for lag, share in shares.items())
    assert sum(shares.values()) > 0.995
    assert panel.get_title(loc="left") == f"90% of the relevance within {horizon.reach()[0]} steps"


def test_ledger_stacks_both_signs_apart_and_marks_the_score() -> None:
    found = every_step()
    panel = axes(found.plot())["contribution to the score / output step"]
    given, bias = (np.array([bar.get_height() for bar in container]) for container in panel.containers)
    assert np.allclose(given, found.ledger["input"][0])
    assert np.allclose(bias, -0.5)
    starts = np.array([bar.get_y() for bar in panel.containers[1]])
    assert np.allclose(starts, np.minimum(found.ledger["input"][0], 0))
    score = next(line for line in panel.get_lines() if line.get_label() == "score")
    assert np.allclose(score.get_ydata(), found.scores[0])
    assert not any("contribution" in name for name in axes(every_step(ledger=False).plot()))


@pytest.mark.parametrize("targets", [1, 3])
def test_few_targets_have_a_map_each(targets: int) -> None:
    found = whole(targets)
    figure = found.plot()
    maps = [a for a in figure.axes if a.get_ylabel() == "feature"]
    assert len(maps) == targets
    for k, axis in enumerate(maps):
        assert np.array_equal(image(axis), found.relevance[0, k].T)
        assert axis.get_title(loc="left") == f"class $\\{k}: {found.scores[0, k]:.3g}"
    assert not any("steady" in name or "lag" in name for name in axes(figure))


def test_many_targets_of_no_step_are_rows() -> None:
    found = whole(5)
    panels = axes(found.plot())
    assert np.allclose(image(panels["feature / input step"]), found.relevance[0].mean(axis=0).T)
    assert np.allclose(image(panels["target / input step"]), np.abs(found.relevance[0]).mean(axis=2))


def test_of_more_features_than_there_is_room_for_the_strongest_is_drawn() -> None:
    found = every_step(features=450)
    found.relevance[0, 4, 4, 301] = -9.0
    panel = axes(found.plot())["feature (strongest of 3) / output step"]
    drawn, own = image(panel), found.own()[0]
    assert drawn.shape == (150, T)
    assert drawn[100, 4] == -9.0
    assert all(
        abs(drawn[r, t]) == np.abs(own[t, 3 * r : 3 * r + 3]).max() for r in (0, 77, 149) for t in (0, 11)
    )


def test_zero_relevance_is_drawn() -> None:
    found = whole(1)
    found.relevance[:] = 0
    low, high = axes(found.plot())["feature / input step"].get_images()[0].get_clim()
    assert low < 0 < high


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_pictures_are_written_whole(tmp_path: Path, suffix: str) -> None:
    path = every_step(batch=2).save(tmp_path / "deep" / f"a{suffix}", sample=1)
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix.lower()]
    assert path.read_bytes().startswith(starts)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.width > 1000


def test_npz_is_kept_and_other_suffixes_and_samples_are_refused(tmp_path: Path) -> None:
    found = every_step()
    assert np.array_equal(load(found.save(tmp_path / "a.npz")).relevance, found.relevance)
    with pytest.raises(MediaError, match=r"a\.jpg.*\.npz.*\.png"):
        found.save(tmp_path / "a.jpg")
    for sample in (-1, 1):
        with pytest.raises(InputError, match=f"no sample {sample}.*holds 1"):
            found.plot(sample)
