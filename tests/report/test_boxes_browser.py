"""A page of boxes in a real browser: a click on a box shows its map."""

from pathlib import Path
from typing import Any

import pytest
from browsing import opened_page, until
from detectors import Spots, two_spots

import chronocam as cc

pytest.importorskip("playwright.sync_api")


def test_a_click_on_a_box_shows_its_map(browser: Any, tmp_path: Path) -> None:
    explanation = cc.ODAM(Spots()).explain(two_spots()[:1], cc.targets.Boxes())
    path = explanation.save(tmp_path / "boxes.html")
    with opened_page(browser, path) as view:
        until(view, "document.querySelectorAll('.found').length === 2")
        assert view.get_attribute(".found.chosen", "title") == "red (3, 3, 9, 9)"
        assert view.is_checked("#own")  # maps of boxes share no scale
        place = view.locator(".found[title^=green]").bounding_box()
        canvas = view.locator(".picture canvas").bounding_box()
        x = (place["x"] + place["width"] / 2 - canvas["x"]) / canvas["width"]
        y = (place["y"] + place["height"] / 2 - canvas["y"]) / canvas["height"]
        assert (x, y) == pytest.approx((26 / 32, 22 / 32), abs=0.01)
        view.locator(".found[title^=green]").click()
        until(view, "document.querySelector('.found.chosen').title.startsWith('green')")
        until(
            view, "document.querySelector('.picture canvas').getAttribute('aria-label').startsWith('green')"
        )


def test_a_page_without_boxes_has_no_outlines(browser: Any, tmp_path: Path) -> None:
    explanation = cc.HiResCAM(Spots(), "body.0").explain(two_spots()[:1], lambda rows: rows[:, 9, 4])
    path = explanation.save(tmp_path / "plain.html")
    with opened_page(browser, path) as view:
        until(view, "Boolean(document.querySelector('.picture canvas')?.getAttribute('aria-label'))")
        assert view.locator(".found").count() == 0
        assert not view.is_checked("#own")
