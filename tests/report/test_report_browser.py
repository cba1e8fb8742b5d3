"""Pages driven in a real browser, from disk: what is seen is what the arrays say."""

from __future__ import annotations

import base64
import json
import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from browsing import SIZES, opened_page, until
from helpers import run
from report.test_report import hostile
from report_samples import jpeg, kept, kept_clip, of_clip, of_image, of_sequence, photo

import chronocam as cc
from chronocam.media import still
from chronocam.render import overlay, strength
from chronocam.types.findings import note


@contextmanager
def opened(browser, path, size="desktop", scheme="light"):
    """Open a page of explanations and wait until everything is drawn."""
    with opened_page(browser, path, size, scheme) as view:
        ready(view)
        yield view


def ready(view):
    """Wait until everything is drawn."""
    until(
        view,
        "typeof page === 'undefined' || (page.item && (!page.item.stills || (page.panes.length > 0 &&"
        " page.panes.every((pane) => pane.shown))) && page.sequences.every((one) => one.charts))",
    )


def pixels(view, pane=0):
    """Return what a pane shows, as RGB."""
    script = """(i) => {
        const { canvas, context } = page.panes[i];
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        const text = Array.from(data, (byte) => String.fromCharCode(byte)).join("");
        return [canvas.height, canvas.width, btoa(text)];
    }"""
    height, width, text = view.evaluate(script, pane)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def expected(explanation, frame=None, target=0, cmap=None, alpha=0.7, sample=0):
    """Return what a pane is to show, by the library's own drawing at the size of the picture kept."""
    stills = explanation.pictures[sample]
    left, top, right, bottom = stills.seen
    picture = stills.decoded(frame or 0)
    values = strength(explanation.maps[sample : sample + 1])
    flat = cc.Explanation(
        values,
        explanation.scores[:1],
        explanation.targets[:1],
        "",
        "",
        explanation.input_size,
        centers=explanation.centers,
    )
    size = (bottom - top, right - left)
    fine = flat.upsample(size if frame is None else (explanation.input_size[0], *size))[0, target]
    value = fine if frame is None else fine[frame]
    shown = np.rint(0.45 * picture) if (left, top, right, bottom) != (0, 0, *stills.size[::-1]) else picture
    shown = shown.astype(np.uint8)
    signed = bool((values[0, target] < 0).any())
    shown[top:bottom, left:right] = overlay(picture[top:bottom, left:right], value, cmap, alpha, signed)
    return shown.astype(int)


def alike(found, wanted):
    assert found.shape == wanted.shape
    difference = np.abs(found - wanted)
    assert difference.mean() < 1.0, difference.mean()
    assert np.quantile(difference, 0.999) <= 7, np.quantile(difference, 0.999)


def choose_frame(view, frame):
    view.locator("#frame").fill(str(frame))
    assert view.evaluate("page.frame") == frame


# The right frame, with the right map


def test_the_pointer_outlines_what_a_cell_sees(browser, tmp_path):
    from dataclasses import replace

    windows = (cc.types.Window(72, -40, 100), cc.types.Window(74, -10, 80))
    explanation = kept(replace(of_image(size=(360, 520)), windows=windows))
    assert cc.load(explanation.save(tmp_path / "x.npz")).windows == windows
    with opened(browser, cc.load(tmp_path / "x.npz").save(tmp_path / "x.html")) as view:
        canvas = view.locator("#panes canvas[role=img]").first
        area = canvas.bounding_box()
        canvas.hover(position={"x": area["width"] * 2.5 / 7, "y": area["height"] * 1.5 / 5})
        assert view.locator(".here").inner_text().endswith("sees 141 × 91 of 360 × 520 pixels")
        seen, scale = view.locator(".sight").bounding_box(), area["width"] / 520
        assert seen["x"] - area["x"] == pytest.approx(scale * (2 * 74 - 10), abs=2)
        assert seen["height"] == pytest.approx(scale * 141, abs=2)


def test_the_slider_shows_each_frame_with_its_own_map(browser, tmp_path):
    explanation = kept_clip(of_clip(slices=16))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        for frame in (0, 7, 15, 3):
            choose_frame(view, frame)
            found = pixels(view)
            alike(found, expected(explanation, frame))
            other = expected(explanation, (frame + 4) % 16)
            assert np.abs(found - other).mean() > 5  # another frame would be told apart


def test_slices_of_several_frames_blend_in_time(browser, tmp_path):
    explanation = kept_clip(of_clip(slices=4))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        for frame in (0, 6, 11):
            choose_frame(view, frame)
            alike(pixels(view), expected(explanation, frame))


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_lies_on_the_part_that_the_model_saw(browser, tmp_path, signed):
    explanation = kept(of_image(signed=signed), seen=(60, 30, 400, 300))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        alike(pixels(view), expected(explanation, target=1))


def test_cells_lie_where_their_receptive_fields_are(browser, tmp_path):
    rows, columns = tuple(4.0 + 13 * np.arange(5)), tuple(2.0 + 11 * np.arange(7))
    explanation = kept(of_image(centers=(rows, columns)))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        alike(pixels(view), expected(explanation, target=1))
    tiled = kept(of_image())
    assert np.abs(expected(explanation, target=1) - expected(tiled, target=1)).mean() > 3


def test_opacity_colours_and_scale_change_the_picture_as_told(browser, tmp_path):
    explanation = kept(of_image())
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        for name in ("viridis", "jet", "RdBu_r"):
            view.locator("#colours").select_option(name)
            alike(
                pixels(view), expected(explanation, target=1, cmap=name) if name != "RdBu_r" else pixels(view)
            )
        view.locator("#colours").select_option("auto")
        view.locator("#opacity").fill("0.3")
        alike(pixels(view), expected(explanation, target=1, alpha=0.3))
        view.locator("#opacity").fill("0")
        alike(pixels(view), explanation.pictures[0].decoded().astype(int))


def test_a_scale_of_its_own_brings_a_weak_class_to_full_strength(browser, tmp_path):
    one = of_image()
    maps = one.maps * np.array([1, 0.2], np.float32)[None, :, None, None]
    explanation = kept(cc.Explanation(maps, one.scores, one.targets, "gradcam", "l", one.input_size))
    alone = kept(
        cc.Explanation(maps[:, 1:], one.scores[:, 1:], (one.targets[0][1:],), "gradcam", "l", one.input_size)
    )
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        view.keyboard.press("2")
        until(view, "page.panes[0].shown.target === 1")
        alike(pixels(view), expected(explanation, target=1))
        view.locator("#own").check()
        found, wanted = pixels(view), expected(alone)
        cut = np.abs(alone.maps).max() / np.quantile(
            np.abs(alone.maps), 0.995
        )  # where the library's colours end
        assert np.abs(found - wanted).mean() < 1 + 12 * (cut - 1)


def test_maps_in_proportion_are_told_apart(browser, tmp_path):
    one = of_image(names=("cat",))
    maps = np.concatenate([one.maps, 0.3 * one.maps], axis=1)
    infos = (of_image().targets[0],)
    explanation = kept(
        cc.Explanation(maps, np.ones((1, 2), np.float32), infos, "gradcam", "l", one.input_size)
    )
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        alike(pixels(view), expected(explanation))
        view.keyboard.press("2")
        until(view, "page.panes[0].shown.target === 1")
        alike(pixels(view), expected(explanation, target=1))


def test_boxes_are_those_of_the_library(browser, tmp_path):
    explanation = kept(of_image(grid=(7, 7), size=(360, 520)))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        view.locator("#boxes").check()
        for threshold in (0.5, 0.8):
            view.locator("#threshold").fill(str(threshold))
            box = [int(n) for n in view.evaluate("page.panes[0].canvas.dataset.box").split()]
            assert np.abs(np.array(box) - explanation.boxes(threshold)[0][1][0]).max() <= 2


# Choosing


def test_classes_and_methods_are_switched(browser, tmp_path):
    shown = {"gradcam": kept(of_image(seed=1)), "layercam": kept(of_image(seed=2))}
    with opened(browser, cc.report.write(tmp_path / "x.html", shown)) as view:
        # Two methods begin side by side, with the class that the network is surest of.
        alike(pixels(view, 0), expected(shown["gradcam"], target=1))
        alike(pixels(view, 1), expected(shown["layercam"], target=1))
        view.keyboard.press("1")
        until(view, "page.panes[0].shown.target === 0")
        alike(pixels(view, 0), expected(shown["gradcam"]))
        assert view.locator("#targets button[aria-pressed=true]").inner_text().startswith("cat")
        view.keyboard.press("m")
        until(view, "page.panes[0].shown.map === 1")
        alike(pixels(view, 0), expected(shown["layercam"]))
        view.get_by_label("Map B").select_option("gradcam")
        until(view, "page.panes[1].shown.map === 0")
        alike(pixels(view, 1), expected(shown["gradcam"], target=1))
        view.locator("#targets button").last.click()
        until(view, "page.panes[0].shown.target === 1")
        view.keyboard.press("s")
        assert view.locator("#panes figure").count() == 1
        assert "grid 5 × 7" in view.locator("figcaption").inner_text()


def test_samples_are_leafed_through(browser, tmp_path):
    explanation = of_image(3).with_pictures(
        [still(photo(360, 520, seed), f"photo {seed}") for seed in range(3)]
    )
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        view.keyboard.press("n")
        until(view, "page.index === 1 && page.panes.length === 1 && page.panes[0].shown")
        alike(pixels(view), expected(explanation, target=1, sample=1))
        view.locator("#item").select_option("photo 2")
        until(view, "page.index === 2 && page.panes.length === 1 && page.panes[0].shown")
        alike(pixels(view), expected(explanation, target=1, sample=2))


def test_the_keyboard_moves_through_time(browser, tmp_path):
    with opened(browser, kept_clip(of_clip()).save(tmp_path / "x.html")) as view:
        at = lambda: view.evaluate("page.frame")  # noqa: E731
        view.keyboard.press("Home")
        assert at() == 0
        view.keyboard.press("ArrowRight")
        view.keyboard.press("ArrowRight")
        assert at() == 2
        view.keyboard.press("ArrowLeft")
        assert at() == 1
        view.keyboard.press("Shift+ArrowRight")
        assert at() == 5  # the middle of the second slice, frames 4 to 7
        view.keyboard.press("End")
        assert at() == 15
        view.keyboard.press("Space")
        until(view, "page.frame !== 15")
        view.keyboard.press("Space")
        assert view.evaluate("page.player.playing") is None
        assert view.locator("#play").get_attribute("aria-label") == "Play"
        view.keyboard.press("ArrowDown")
        until(view, "page.panes[0].shown.target === 1")
        assert view.locator("#targets button[aria-pressed=true]").inner_text().startswith("clap")


def test_curves_move_with_the_frame_and_can_be_clicked(browser, tmp_path):
    explanation = kept_clip(of_clip())
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        titles = view.locator("#curves h3").all_inner_texts()
        assert [title.split(":")[0].split(" in ")[0] for title in titles] == [
            "Share of the evidence",
            "Attention",
            "Attention",
        ]
        chart = view.locator("#curves svg[role=img]").nth(1)
        box = chart.bounding_box()
        inner = box["width"] - 64
        chart.click(position={"x": 56 + inner * (11.5 / 16), "y": 40})
        assert view.evaluate("page.frame") == 11
        heads = view.locator("#curves .head").evaluate_all(
            "all => all.map((one) => Number(one.getAttribute('x1')))"
        )
        assert heads == pytest.approx([56 + inner * (11.5 / 16)] * 3, abs=1)
        assert "frames 8–11" in view.locator("#status").inner_text()
        share = explanation.frame_importance()[0, 0, 2]
        assert f"{100 * share:.2g}" in view.locator("#status").inner_text()
        view.locator("#slices button").first.click()
        assert view.evaluate("page.frame") == 1
        pressed = view.locator("#slices button[aria-pressed=true]").all_inner_texts()
        assert pressed == ["0–3"]


def test_the_evidence_of_a_slice_is_drawn_over_the_frames_that_it_spans(browser, tmp_path):
    explanation = kept_clip(of_clip(frames=4, slices=2), frames=4)
    assert explanation.frame_spans == ((0, 1), (2, 3))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        chart = "page.player.charts[0]"
        until(view, "page.player?.charts?.length > 0")
        outline = view.evaluate(f"{chart}.svg.querySelector('path.area').getAttribute('d')")
        points = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.]+,[\d.]+", outline)]
        frames = view.evaluate(f"Array.from({{ length: 5 }}, (_, i) => {chart}.x(i))")
        shares = explanation.frame_importance()[0, 0].tolist()
        levels = view.evaluate(f"[0, ...{shares}].map((share) => {chart}.y(share))")
        zero, first, second = levels
        wanted = [
            (frames[0], zero),
            (frames[0], first),
            (frames[2], first),
            (frames[2], second),
            (frames[4], second),
            (frames[4], zero),
        ]
        np.testing.assert_allclose(points, wanted, atol=0.05)


# Legible


def of_a_faint_class(share=0.2):
    one = of_image()
    maps = one.maps * np.array([1, share], np.float32)[None, :, None, None]
    maps /= np.abs(maps).max(axis=(2, 3), keepdims=True) / np.array([1, share])[None, :, None, None]
    sure = np.array([[0.7, 0.2]], np.float32)
    return kept(
        cc.Explanation(maps, one.scores, one.targets, "gradcam", "l", one.input_size, confidences=sure)
    )


def test_slices_of_the_same_frames_have_steps_of_their_own(browser, tmp_path):
    clip = kept_clip(replace(of_clip(attention=False), frame_spans=((0, 3), (4, 9), (4, 9), (9, 15))))
    with opened(browser, clip.save(tmp_path / "x.html")) as view:
        parts = view.locator(".area").first.get_attribute("d").split("Z")[:-1]
        assert len(parts) == 3  # the two that cover frames of an earlier one begin anew
        for part in parts:
            across = [float(x) for x in re.findall(r"[ML]([\d.]+),", part)]
            assert across == sorted(across)


def test_a_page_opens_on_the_class_that_the_network_is_surest_of(browser, tmp_path):
    explanation = kept(of_image())
    assert explanation.confidences.argmax() == 1
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        chips = view.locator("#targets button")
        assert [chip.split("\n") for chip in chips.all_inner_texts()] == [["cat", "10 %"], ["dog", "90 %"]]
        assert view.locator("#targets button[aria-pressed=true] .name").inner_text() == "dog"
        bars = chips.locator(".meter").evaluate_all(
            "all => all.map((one) => one.firstChild.offsetWidth / one.offsetWidth)"
        )
        assert bars == pytest.approx([0.1, 0.9], abs=0.02)
        assert view.locator("#sentence").inner_text().startswith("Says dog, 90 %: the evidence ")
        chips.first.click()
        until(view, "page.panes[0].shown.target === 0")
        assert view.locator("#sentence").inner_text().startswith("cat, 10 %: the evidence ")


def test_a_faint_map_says_so_and_offers_a_scale_of_its_own(browser, tmp_path):
    with opened(browser, of_a_faint_class().save(tmp_path / "x.html")) as view:
        faint = view.locator(".faint")
        assert not faint.is_visible()
        view.keyboard.press("2")
        until(view, "page.panes[0].shown.target === 1")
        assert faint.inner_text() == (
            "Faint: its peak is 0.2 of the strongest map here (cat). show at its own scale"
        )
        high = view.locator(".ticks span").last
        shared = float(high.inner_text().split()[0])
        dim = pixels(view)
        faint.get_by_role("button").click()
        assert view.locator("#own").is_checked()
        assert np.abs(pixels(view) - dim).mean() > 5
        assert float(high.inner_text().split()[0]) == pytest.approx(0.2, abs=0.01)
        assert shared == pytest.approx(1, abs=0.15)
        faint.get_by_role("button").click()
        np.testing.assert_array_equal(pixels(view), dim)


def test_the_chosen_of_many_classes_is_in_sight_and_a_long_name_hides_none(browser, tmp_path):
    explanation = kept(of_image(names=("x" * 300, *(f"class {k}" for k in range(1, 120)))))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        shown, chosen = (view.locator(one).bounding_box() for one in ("#targets", "[aria-pressed=true]"))
        assert view.locator("#targets [aria-pressed=true] .name").inner_text() == "class 119"
        assert shown["y"] <= chosen["y"] <= shown["y"] + shown["height"] - chosen["height"] + 1
        first = view.locator("#targets button").first
        assert first.bounding_box()["height"] < 0.6 * shown["height"]
        assert first.locator(".name").get_attribute("title") == "x" * 300


def test_on_paper_everything_is_listed_and_nothing_is_to_be_pressed(browser, tmp_path):
    one = of_clip()
    many = replace(one, findings=tuple(note(f"finding {k}") for k in range(80)))
    with opened(browser, kept_clip(many).save(tmp_path / "x.html"), scheme="dark") as view:
        findings = view.locator("#findings")
        assert findings.evaluate("one => one.scrollHeight > one.clientHeight")
        view.emulate_media(media="print")
        assert not findings.evaluate("one => one.scrollHeight > one.clientHeight")
        for name in ("#controls", "#help", "#play", "#frame"):
            assert not view.locator(name).is_visible(), name
        paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
        assert min(map(int, re.findall(r"\d+", paper)[:3])) > 200


def test_a_map_of_zeros_is_called_one(browser, tmp_path):
    one = of_image()
    maps = one.maps * np.array([1, 0], np.float32)[None, :, None, None]
    explanation = kept(cc.Explanation(maps, one.scores, one.targets, "gradcam", "l", one.input_size))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        view.keyboard.press("2")
        until(view, "page.panes[0].shown.target === 1")
        assert view.locator(".faint").inner_text().strip() == "Zero everywhere."
        assert "the map is zero everywhere" in view.locator("#sentence").inner_text()
        alike(pixels(view), kept(of_image()).pictures[0].decoded().astype(int))


def test_the_pointer_reads_the_value_and_the_cell(browser, tmp_path):
    explanation = kept(of_image(grid=(5, 7), size=(360, 520)))
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        canvas = view.locator("#panes canvas[role=img]").first
        area = canvas.bounding_box()
        row, column = 3, 5
        at = {"x": area["width"] * (column + 0.5) / 7, "y": area["height"] * (row + 0.5) / 5}
        canvas.hover(position=at)
        words = view.locator(".here").inner_text()
        assert words.endswith(f"row {row + 1}, column {column + 1} of 5 × 7 cells")
        assert float(words.split()[1]) == pytest.approx(explanation.maps[0, 1, row, column], rel=0.03)
        cell = view.locator(".cell").bounding_box()
        assert cell["x"] - area["x"] == pytest.approx(area["width"] * column / 7, abs=2)
        assert cell["height"] == pytest.approx(area["height"] / 5, abs=2)


def test_the_slider_shows_the_picture_on_its_left_and_the_map_on_its_right(browser, tmp_path):
    explanation = kept(of_image())
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        plain, drawn = explanation.pictures[0].decoded().astype(int), expected(explanation, target=1)
        view.keyboard.press("x")
        until(view, "page.against !== null")
        half = drawn.shape[1] // 2
        alike(pixels(view)[:, : half - 1], plain[:, : half - 1])
        alike(pixels(view)[:, half + 1 :], drawn[:, half + 1 :])
        handle = view.get_by_role("slider", name="Where the two meet")
        handle.focus()
        for _ in range(5):
            view.keyboard.press("ArrowRight")
        assert handle.get_attribute("aria-valuenow") == "75"
        box, area = handle.bounding_box(), view.locator("#panes .picture canvas").bounding_box()
        view.mouse.move(box["x"] + box["width"] / 2, area["y"] + 20)
        view.mouse.down()
        view.mouse.move(area["x"] + 0.25 * area["width"], area["y"] + 20)
        view.mouse.up()
        quarter = drawn.shape[1] // 4
        alike(pixels(view)[:, : quarter - 3], plain[:, : quarter - 3])
        alike(pixels(view)[:, quarter + 3 :], drawn[:, quarter + 3 :])
        view.locator("#against").select_option("cat")
        until(view, "page.against.field !== null")
        alike(pixels(view)[:, : quarter - 3], expected(explanation)[:, : quarter - 3])
        view.locator("#slider").uncheck()
        alike(pixels(view), drawn)


def test_the_address_holds_the_view(browser, tmp_path):
    shown = {"a": kept_clip(of_clip(seed=1)), "b": kept_clip(of_clip(seed=2))}
    path = cc.report.write(tmp_path / "x.html", shown)
    with opened(browser, path) as view:
        view.keyboard.press("s")
        view.keyboard.press("m")
        until(view, "page.panes[0].shown.map === 1")
        view.keyboard.press("3")
        until(view, "page.panes[0].shown.target === 2")
        choose_frame(view, 11)
        until(view, "location.hash.includes('frame=11')")
        address = view.url
        before = pixels(view)
    assert address.endswith("#map=b&target=nod&frame=11")
    with opened(browser, f"{path}#{address.partition('#')[2]}") as view:
        assert view.evaluate("page.frame") == 11
        np.testing.assert_array_equal(pixels(view), before)
        assert view.evaluate("page.player.playing") is None


def test_a_clip_plays_until_the_reader_chooses_a_frame(browser, tmp_path):
    path = kept_clip(of_clip()).save(tmp_path / "x.html")
    with opened(browser, path) as view:
        first = view.evaluate("page.frame")
        until(view, f"page.frame !== {first}")
        choose_frame(view, 4)
        assert view.evaluate("page.player.playing") is None
    still_view = browser.new_page(reduced_motion="reduce")
    still_view.goto(f"file://{path}")
    ready(still_view)
    assert still_view.evaluate("page.player.playing") is None
    still_view.close()


# Sequences and drives


def test_relevance_is_drawn_and_read(browser, tmp_path):
    explanation = of_sequence()
    with opened(browser, explanation.save(tmp_path / "x.html")) as view:
        view.locator("#sequence select").select_option(index=8)
        until(view, "page.sequences[0].target === 8")
        drawn = np.array(
            view.evaluate("[...page.sequences[0].canvas.getContext('2d').getImageData(0, 0, 12, 9).data]")
        ).reshape(9, 12, 4)[..., :3]
        peak = np.abs(np.concatenate([explanation.own()[0][None], explanation.relevance[0]])).max()
        from chronocam.render._overlay import colour_map

        steps = (np.rint(127 * explanation.relevance[0, 7] / peak) + 128).astype(int)
        wanted = np.rint(255 * colour_map("RdBu_r")(steps.T)[..., :3])
        assert np.abs(drawn - wanted).max() <= 1
        view.keyboard.press("End")
        view.keyboard.press("ArrowLeft")
        assert "step 10: strongest features none" in view.locator("#sequence [role=status]").inner_text()
        view.keyboard.press("Home")
        best = int(np.abs(explanation.relevance[0, 7, 0]).argmax())
        assert f"step 0: strongest features {best} (" in view.locator("#sequence [role=status]").inner_text()
        assert view.locator("#sequence table tr").count() == 5  # four terms and the score


def test_keys_of_pictures_do_nothing_where_there_are_none(browser, tmp_path):
    with opened(browser, of_sequence().save(tmp_path / "x.html")) as view:
        for key in ("x", "s", "b", "o", "m", "c", "n", "p", "Space", "3"):
            view.keyboard.press(key)
        until(view, "page.sequences[0].target === 2")


def test_a_drive_has_its_path_and_every_output(browser, tmp_path):

    drive = cc.data.drives.export(tmp_path / "drive", 1, frames=6) / "sequences" / "00"
    options = [
        "--target",
        "tz",
        "--target",
        "depth",
        "--frames",
        "6",
        "--out",
        str(tmp_path / "out"),
        "--html",
    ]
    done = run("explain", str(drive), "--model", "chronocam:odometry", *options)
    assert done.exit_code == 0, done.stderr
    first = (tmp_path / "out" / "00.html").read_bytes()
    again = run("report", str(tmp_path / "out"), "--out", str(tmp_path / "again"))
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again" / "00.html").read_bytes() == first
    with opened(browser, tmp_path / "out" / "00.html") as view:
        assert view.evaluate("page.item.stills.count") == 5
        sentence = view.locator("#sentence").inner_text()
        assert sentence.startswith("tz (forwards and back), over 5 moments: ")
        maps = cc.load(tmp_path / "out" / "00.pose.gradcam.npz")
        choose_frame(view, 3)
        seen = view.evaluate("Array.from(page.panes[0].field.values.slice(3 * 14, 4 * 14))")
        moments = maps.maps[:, 0]
        np.testing.assert_allclose(seen, (moments[3] / np.abs(moments).max()).ravel(), atol=0.01)
        assert view.locator("#path polyline").count() == 2  # the network's, and the true one
        path = json.loads((tmp_path / "out" / "00.json").read_text())["path"]
        for name, scale in (("positions", path["scale"]), ("truth", 1)):
            from_above = scale * np.array(path[name])[:, [0, 2]]  # to the right and ahead
            np.testing.assert_allclose(
                view.evaluate(f"page.item.path.{name}"), from_above, rtol=1e-4, atol=1e-9
            )
        before = pixels(view)
        view.locator("#background").select_option("depth")
        assert np.abs(pixels(view) - before).mean() > 10
        view.locator("#path svg").first.click(position={"x": 5, "y": 5})
        assert view.evaluate("page.frame") == 4  # the far end of the path is nearest to its upper corner


# Everywhere


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_pages_fit_and_are_quiet(browser, tmp_path, size, scheme):
    shown = {"a": kept_clip(of_clip(seed=1)), "b": kept_clip(of_clip(seed=2))}
    pages = [cc.report.write(tmp_path / "x.html", shown), of_sequence().save(tmp_path / "s.html")]
    for path in pages:
        with opened(browser, path, size, scheme) as view:
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
            paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
            view.locator("#theme").click()
            assert view.evaluate("getComputedStyle(document.body).backgroundColor") != paper
            unnamed = "(one) => !one.hidden && !one.labels?.length && !one.ariaLabel && !one.innerText"
            assert (
                view.locator("button, input, select").evaluate_all(f"all => all.filter({unnamed}).length")
                == 0
            )


def test_names_stay_text(browser, tmp_path):
    explanation = hostile()
    explanation.save(tmp_path / "x.npz")
    cc.report.write(tmp_path / "x.html", {"<b>x</b>": explanation}, title="<script>alert(1)</script>.png")
    index = cc.report.write_folder(tmp_path, tmp_path / "out")
    for path in (tmp_path / "x.html", index):
        with opened(browser, path) as view:
            assert view.locator("script").count() == 2
            assert view.locator("img[src=x], b").count() == 0
            assert view.title() != "taken"


def test_a_notebook_shows_the_page_in_its_frame(browser, tmp_path):
    explanation = kept(of_image())
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><p>a cell</p>{explanation._repr_html_()}")
    with opened(browser, path) as view:
        frame = view.frames[1]
        for _ in range(200):
            if frame.evaluate("page.panes.length && page.panes[0].shown !== null"):
                break
            view.wait_for_timeout(25)
        assert frame.locator("#targets button").count() == 2
        frame.locator("#targets button").first.click()
        view.wait_for_timeout(400)  # the address would be written by now
        script = """() => {
            const { canvas, context } = page.panes[0];
            return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
        }"""
        wanted = expected(explanation)
        alike(np.array(frame.evaluate(script)).reshape(*wanted.shape[:2], 4)[..., :3], wanted)
        assert frame.evaluate("origin") == "null"  # it can reach nothing of the notebook


# The index


def many(tmp_path, count):
    from chronocam.media.files import replace_file
    from chronocam.report.index import Row, list_page

    rng = np.random.default_rng(0)
    thumbnail = base64.b64encode(jpeg(photo(12, 16))).decode()
    rows = [
        {
            "href": f"{i}.html",
            "name": f"photo {i:04}.jpg",
            "model": "net",
            "kind": "picture",
            "method": "gradcam",
            "class": ("cat", "dog", "fox")[i % 3],
            "score": float(rng.normal()),
            "confidence": None if i % 10 == 0 else float(rng.random()),
            "sentence": "the evidence lies in the middle",
            "findings": ["blank"] if i % 4 == 0 else [],
            "picture": thumbnail,
        }
        for i in range(count)
    ]
    records = [Row.from_json(row) for row in rows]
    text = list_page("many", records)
    return rows, replace_file(tmp_path / "index.html", lambda path: path.write_text(text))


def test_an_index_of_a_thousand_is_sorted_and_filtered(browser, tmp_path):
    rows, path = many(tmp_path, 1000)
    names = lambda view: view.locator("#rows .name").all_text_contents()  # noqa: E731
    with opened(browser, path) as view:
        assert view.locator("#rows a").count() == 1000
        view.get_by_role("button", name="Score").click()
        assert names(view) == [row["name"] for row in sorted(rows, key=lambda row: -row["score"])]
        view.get_by_role("button", name="Score").click()
        assert names(view) == [row["name"] for row in sorted(rows, key=lambda row: row["score"])]
        unknown = {row["name"] for row in rows if row["confidence"] is None}
        for _ in ("falling", "rising"):  # what is not known comes last either way
            view.get_by_role("button", name="Confidence").click()
            assert set(names(view)[-len(unknown) :]) == unknown
        view.locator("#class").select_option("dog")
        view.locator("#findings").select_option("some")
        assert set(names(view)) == {r["name"] for r in rows if r["class"] == "dog" and r["findings"]}
        assert view.locator("#count").inner_text() == f"{len(names(view))} of 1000"
        view.locator("#confidence").fill("0.5")
        assert set(names(view)) == {
            r["name"] for r in rows if r["class"] == "dog" and r["findings"] and (r["confidence"] or 0) >= 0.5
        }
        view.locator("#class").select_option("")
        view.locator("#confidence").fill("")
        view.locator("#words").fill("0042 dog")
        assert names(view) == []
        view.locator("#findings").select_option("")
        view.locator("#words").fill("photo 0043")
        assert names(view) == ["photo 0043.jpg"]


def test_an_index_begins_with_a_large_picture_and_says_what_it_is(browser, tmp_path):
    _, path = many(tmp_path, 12)
    with opened(browser, path) as view:
        assert (
            view.locator("#what").inner_text().startswith("12 pictures by net: each shows where the evidence")
        )
        sizes = view.locator("#rows .result").evaluate_all("all => all.map((one) => one.offsetWidth)")
        assert sizes[0] > 1.8 * sizes[1]
        assert sizes[1:] == [sizes[1]] * 11
        view.get_by_role("button", name="Name").click()
        assert view.locator(".hero").count() == 0


def test_an_index_is_walked_with_the_keyboard(browser, tmp_path):
    rows, path = many(tmp_path, 30)
    focused = "[...document.querySelectorAll('#rows a')].indexOf(document.activeElement)"
    with opened(browser, path) as view:
        view.keyboard.press("/")
        view.keyboard.type("fox")
        wanted = [row["name"] for row in rows if row["class"] == "fox"]
        assert view.locator("#rows .name").all_text_contents() == wanted
        view.locator("#rows a").first.focus()
        view.keyboard.press("ArrowRight")
        assert view.evaluate(focused) == 1
        across = view.evaluate("across()")
        assert across == 4
        view.keyboard.press("ArrowDown")
        assert view.evaluate(focused) == 1 + across
        view.keyboard.press("ArrowUp")
        view.keyboard.press("ArrowLeft")
        assert view.evaluate(focused) == 0


def test_the_way_back_from_a_page_leads_to_the_same_view_of_the_index(browser, tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        kept(of_image(seed=seed)).save(tmp_path / f"{name}.npz")
    with opened(browser, cc.report.write_folder(tmp_path)) as view:
        view.get_by_role("button", name="Score").click()
        shown = view.locator("#rows a").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
        assert view.url.endswith("#sort=-Score")
        view.locator("#rows a").nth(1).click()
        view.wait_for_url(re.compile(r"/[abc]\.html"))
        view.go_back()
        until(view, "typeof page === 'undefined' && document.querySelectorAll('#rows a').length === 3")
        again = view.locator("#rows a").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
        assert again == shown
        view.get_by_role("button", name="Show all").click()
        assert view.locator("#rows a").first.get_attribute("href") == "a.html"


def test_pages_lead_to_the_index_and_to_each_other(browser, tmp_path):
    for seed, name in enumerate(("a", "b")):
        kept(of_image(seed=seed)).save(tmp_path / f"{name}.npz")
    index = cc.report.write_folder(tmp_path)
    with opened(browser, tmp_path / "a.html") as view:
        assert view.locator("#links a").all_inner_texts() == ["All results", "b ›"]
        view.keyboard.press("n")
        view.wait_for_url("**/b.html**")
        ready(view)
        view.get_by_role("link", name="‹ a").click()
        view.wait_for_url("**/a.html**")
        view.get_by_role("link", name="All results").click()
        view.wait_for_url(f"**/{index.name}")


def test_an_index_leads_to_its_pages(browser, tmp_path):
    of_image(2).with_pictures([still(photo(36, 52, s), f"photo {s}") for s in range(2)]).save(
        tmp_path / "a b#c.npz"
    )
    index = cc.report.write_folder(tmp_path)
    with opened(browser, index) as view:
        view.get_by_role("link", name="photo 1: dog").click()
        until(view, "typeof page !== 'undefined' && page.panes.length && page.panes[0].shown")
        assert view.evaluate("page.index") == 1
        assert view.locator("h1").inner_text() == "a b#c"


def test_the_part_that_the_model_did_not_see_is_explained(browser, tmp_path):
    cut = of_image().with_pictures([still(photo(60, 80), "", (10, 10, 50, 50))])
    for one, dimmed in ((cut, True), (kept(of_image()), False)):
        with opened(browser, one.save(tmp_path / "a.html")) as view:
            caption = view.evaluate("page.panes[0].caption.textContent")
            assert ("dimmed: not seen by the model" in caption) is dimmed


def test_the_curve_of_a_signal_stands_under_its_picture(browser, tmp_path):
    one = of_image(names=("beat",))
    signal = cc.Explanation(one.maps[:, :, 0], one.scores, one.targets, "gradcam", "conv", (90,))
    with opened(browser, signal.save(tmp_path / "x.html", np.zeros((1, 1, 90)))) as view:
        ends = view.evaluate("""(() => {
            const area = document.querySelector(".chart .area").getBoundingClientRect();
            const picture = page.panes[0].canvas.getBoundingClientRect();
            return [area.left - picture.left, area.right - picture.right];
        })()""")
        assert np.abs(ends).max() <= 2
        said = "beat: the evidence is strongest at samples 77 to 89 (41 %)."
        assert view.locator("#sentence").inner_text() == said


def test_a_volume_has_a_slider_over_its_slices_and_stands_still(browser, tmp_path):
    clip = of_clip(attention=False).with_pictures(np.zeros((1, 16, 110, 160, 1), np.uint8))
    assert clip.pictures[0].unit == "slice"
    with opened(browser, clip.save(tmp_path / "x.html")) as view:
        assert view.evaluate("page.player.playing") is None
        view.get_by_label("Slice", exact=True).fill("5")
        assert view.locator("#time").inner_text() == "slice 5"
        assert view.locator("#status").inner_text().startswith("At slice 5: slices 4–7 hold ")


def test_a_curve_of_zeros_has_no_scale(browser, tmp_path):
    one = of_clip(attention=False)
    blank = replace(one, maps=np.zeros_like(one.maps))
    with opened(browser, kept_clip(blank).save(tmp_path / "x.html")) as view:
        labels = view.locator("#curves .chart svg").first.locator("text").all_text_contents()
        assert labels[:2] == ["", "0"]
