"""Explanations in notebooks: a page in a sandboxed frame, a picture, small copies of the inputs."""

from __future__ import annotations

import html
import io
import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from report_samples import data_of, kept, of_image, of_sequence
from torch import nn

import chronocam as cc
from chronocam.media import Preprocess

EVIL = "</iframe><script>alert(1)</script>\" onload='x"


class Pixels(nn.Module):
    """A network with a grid of its own."""

    def __init__(self, conv=nn.Conv2d, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv = conv(channels, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).flatten(2).mean(2))


def page_in(shown):
    """Return the data of the page in a frame, and the frame's other attributes."""
    text = shown._repr_html_()
    (document,) = re.findall(r'srcdoc="([^"]*)"', text)
    return data_of(html.unescape(document)), text.replace(document, "")


def decoded(item):
    import base64

    (frame,) = item["stills"]["frames"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(frame)))).astype(int)


def test_a_notebook_gets_the_page_in_a_frame_that_can_reach_nothing():
    explanation = kept(of_image())
    data, frame = page_in(explanation)
    assert [one["name"] for one in data["items"][0]["maps"][0]["targets"]] == ["cat", "dog"]
    assert re.findall(r'sandbox="([^"]*)"', frame) == ["allow-scripts"]
    assert frame.count("<iframe") == frame.count("</iframe>") == 1


def test_names_cannot_leave_the_frame():
    text = kept(of_image(names=(EVIL, EVIL)))._repr_html_()
    assert text.count("<") == 2
    assert text.count('"') == 2 * len(re.findall(r'\w+="', text))


def test_inputs_need_not_be_given_again():
    x = torch.rand(3, 3, 32, 48)
    explanation = cc.GradCAM(Pixels()).explain(x, 0)
    data, _ = page_in(explanation)
    assert len(data["items"]) == 3
    shown = decoded(data["items"][1])
    wanted = np.asarray(
        Image.fromarray((255 * x[1].permute(1, 2, 0)).byte().numpy()).resize(shown.shape[1::-1])
    )
    assert np.abs(shown - wanted).mean() < 25
    other = (255 * x[0].permute(1, 2, 0)).byte().numpy()
    assert np.abs(explanation.copies[0].astype(int) - other).max() <= 1


def test_copies_are_small_and_few_and_of_the_first_samples():
    x = torch.rand(12, 1, 300, 40)
    explanation = cc.GradCAM(Pixels(channels=1), batch_size=3).explain(x, 0)
    assert explanation.copies.dtype == np.uint8
    assert explanation.copies.shape == (8, 150, 40, 1)
    np.testing.assert_allclose(explanation.copies[7, :, :, 0], 255 * x[7, 0, ::2], atol=1)


def test_a_long_data_set_has_copies_of_its_first_samples_alone():
    batches = [torch.rand(6, 3, 8, 8) for _ in range(3)]
    method = cc.GradCAM(Pixels())
    assert [part.copies is None for part in method.explain_batches(batches)] == [False, False, True]
    whole = method.explain(iter(batches), 0)
    assert len(whole.copies) == 8
    np.testing.assert_allclose(whole.copies[7], 255 * batches[1][1].permute(1, 2, 0), atol=1)


def test_preprocessing_that_is_known_is_undone():
    preprocess = Preprocess(None, None, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    picture = Image.fromarray(pixels)
    explanation = cc.GradCAM(Pixels(), preprocess=preprocess).explain(picture, 0)
    np.testing.assert_allclose(explanation.copies[0], pixels, atol=1)


def test_clips_have_copies_of_every_frame():
    x = torch.rand(1, 3, 4, 16, 16)
    explanation = cc.GradCAM(Pixels(nn.Conv3d)).explain(x, 0)
    np.testing.assert_allclose(explanation.copies[0], 255 * x[0].permute(1, 2, 3, 0), atol=1)
    data, _ = page_in(explanation)
    assert data["items"][0]["stills"]["count"] == 4


def test_volumes_are_leafed_through_slice_by_slice():
    x = torch.rand(1, 1, 6, 16, 16)
    data, _ = page_in(cc.GradCAM(Pixels(nn.Conv3d, channels=1)).explain(x, 0))
    (item,) = data["items"]
    assert (item["stills"]["count"], item["stills"]["unit"]) == (6, "slice")
    assert (
        "slice" in item["maps"][0]["targets"][0]["sentence"]
        or "evenly" in (item["maps"][0]["targets"][0]["sentence"])
    )
    clip, _ = page_in(cc.GradCAM(Pixels(nn.Conv3d)).explain(x.expand(1, 3, 6, 16, 16), 0))
    assert clip["items"][0]["stills"]["unit"] == "frame"


def test_signals_are_drawn_with_their_map_below():
    x = torch.randn(2, 2, 40)
    x[..., 24:28] *= 20
    explanation = cc.GradCAM(Pixels(nn.Conv1d, channels=2)).explain(x, 0)
    np.testing.assert_array_equal(explanation.copies, np.moveaxis(x.numpy(), 1, -1))
    data, _ = page_in(explanation)
    (shown,) = data["items"][0]["maps"]
    assert shown["grid"] == [40]
    np.testing.assert_allclose(shown["targets"][0]["line"], explanation.maps[0, 0], rtol=1e-3, atol=1e-9)
    peak = explanation.maps[0, 0].argmax()
    assert 23 <= peak <= 28
    first, last = re.search(r"at samples? (\d+)(?: to (\d+))?", shown["targets"][0]["sentence"]).groups()
    assert int(first) <= peak <= int(last or first)


def test_values_of_any_range_are_stretched_to_that_of_their_sample():
    x = torch.rand(2, 3, 8, 8) * torch.tensor([8.0, 2.0])[:, None, None, None] - 1
    copies = cc.GradCAM(Pixels()).explain(x, 0).copies
    assert copies.reshape(2, -1).min(axis=1).tolist() == [0, 0]
    assert copies.reshape(2, -1).max(axis=1).tolist() == [255, 255]


def test_a_cell_keeps_at_most_a_megabyte_and_says_what_is_left_out():
    noise = np.random.default_rng(0).integers(0, 256, (8, 300, 300, 3), np.uint8)
    explanation = of_image(8, size=(300, 300)).with_pictures(noise)
    text = explanation._repr_html_()
    count = len(page_in(explanation)[0]["items"])
    assert count in (1, 2, 4)
    assert len(text) <= 1_000_000
    assert f"The first {count} of 8 samples" in text


@pytest.mark.parametrize("shown", [of_image(), of_sequence()])
def test_what_shows_no_pages_gets_a_picture(shown):
    with Image.open(io.BytesIO(shown._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100


def test_the_picture_of_a_cell_is_drawn_on_what_the_model_saw():
    grey = np.full((60, 90, 3), 128, np.uint8)
    zero = of_image()
    blank = cc.Explanation(
        0 * zero.maps, zero.scores, zero.targets, "gradcam", "l", zero.input_size
    ).with_pictures([grey])
    picture = np.asarray(Image.open(io.BytesIO(blank._repr_png_())).convert("RGB")).astype(int)
    assert (np.abs(picture - 128).max(axis=2) <= 2).mean() > 0.3


def of_others(count):
    """An explanation of samples of which each is asked for a class of its own."""
    one = of_image(count)
    rows = tuple((cc.types.TargetInfo(f"class {k}", k), *row[1:]) for k, row in enumerate(one.targets))
    return replace(one, targets=rows)


@pytest.mark.parametrize(
    ("shown", "title"),
    [
        (kept(of_image()), "a photo.jpg · cat, dog · gradcam at layer4"),
        (of_image(), "cat, dog · gradcam at layer4"),
        (of_sequence(), "12 targets · lrp of 12 steps"),
        (of_others(4), "4 samples · gradcam at layer4"),
    ],
)
def test_a_page_is_called_by_what_was_explained_and_not_by_its_file(tmp_path, shown, title):
    assert data_of(shown.save(tmp_path / "x.html").read_text())["title"] == title
    assert page_in(shown)[0]["title"] == title


@pytest.mark.parametrize("shown", [kept(of_image()), of_sequence()])
def test_show_opens_a_page_in_a_browser(monkeypatch, shown):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = shown.show()
    assert opened == [path.as_uri()]
    assert "<title>" in path.read_text()


def test_show_displays_in_a_notebook(monkeypatch):
    displayed = []
    shell = types.SimpleNamespace(kernel=None)
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell
    inner = types.ModuleType("IPython.display")
    inner.display = displayed.append
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    explanation = kept(of_image())
    assert explanation.show() is None
    assert displayed == [explanation]
    explanation.show([np.zeros((60, 90, 3), np.uint8)])
    assert displayed[1].pictures != explanation.pictures
