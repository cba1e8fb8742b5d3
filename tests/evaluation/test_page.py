"""The page of an evaluation in a browser: plots and samples of the measure that was chosen."""

import numpy as np
import pytest
import torch
from browsing import opened_page, until
from torch import nn

import chronocam as cc


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = np.random.default_rng(0).normal(size=(6, 3, 16, 16)).astype(np.float32)
    masks = np.zeros((6, 16, 16), bool)
    masks[:, 4:9, 4:9] = True
    result = cc.evaluate(
        net.eval(),
        x,
        1,
        methods=["gradcam", "eigencam"],
        measures=["energy", "deletion", "pxap"],
        truth=masks,
    )
    return result.save(tmp_path_factory.mktemp("page") / "evaluation.html"), result


def test_each_measure_has_its_plot_and_its_numbers(browser, page):
    path, result = page
    with opened_page(browser, path) as view:
        titles = view.locator("#choice button").all_inner_texts()
        assert titles == ["energy inside", "deletion", "PxAP"]
        view.click("#choice [data-name=deletion]")
        assert view.locator("#what").inner_text().lower() == "deletion · lower is better"
        said = view.locator("#forest text").all_text_contents()
        line = next(line for line in result.lines if line.measure.name == "deletion")
        assert any(text.startswith(f"{line.interval.mean:.3g}") for text in said)
        assert view.locator("#curves polyline").count() == len(result.rows)
        assert view.url.endswith("#deletion")
        view.click("#choice [data-name=pxap]")  # of all samples together: no curves, and none is best
        assert not view.locator("#gallery").is_visible()
        assert view.locator("#numbers tbody tr").count() == len(result.lines)
        assert all(text in view.content() for text in ("random", "centre", "edges", "randomised"))


def test_a_click_on_a_sample_shows_every_map_of_it(browser, page):
    path, result = page
    with opened_page(browser, path) as view:
        values = result.values(result.rows[0], result.measures[0])
        first = view.locator("#ends button").first
        assert float(first.locator(".value").inner_text()) == pytest.approx(values.min(), rel=5e-3)
        until(view, "document.querySelector('#ends canvas').width > 0")
        first.click()
        assert view.locator("#sample").is_visible()
        assert view.locator("#sample canvas").count() == len(result.rows)
        view.keyboard.press("Escape")
        assert not view.locator("#sample").is_visible()


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_at_either_width(browser, page, size, scheme):
    with opened_page(browser, page[0], size, scheme) as view:
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
