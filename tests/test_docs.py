"""The documentation tells what is: its code runs, its command lines exist, and nothing is left out."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from pages import Block, blocks, commands, parse, run_page

import chronocam as cc

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
sys.path.insert(0, str(DOCS / "_ext"))  # the build's own modules


def of_kind(kind: str) -> list[Path]:
    return [page for page in PAGES if any(block.kind == kind for block in blocks(page))]


def names(page: Path) -> str:
    return page.stem


def uses_keras(page: Path) -> bool:
    return any(block.kind == "python" and "keras." in block.text for block in blocks(page))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", [page for page in of_kind("python") if not uses_keras(page)], ids=names)
def test_the_code_of_a_page_runs(page: Path) -> None:
    run_page(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in of_kind("python") if uses_keras(page)], ids=names)
def test_the_keras_code_of_a_page_runs(page: Path) -> None:
    of_its_own(page)


def of_its_own(page: Path) -> None:
    """Run a page in a process of its own, since Keras keeps the backend that it began with."""
    if importlib.util.find_spec("keras") is None:  # not imported: TensorFlow before torch may end the process
        pytest.skip("keras is not installed")
    chosen = re.search(r"<!-- keras: (\w+) -->", page.read_text(encoding="utf-8"))
    backend = chosen[1] if chosen else "torch" if page.name == "README.md" else "jax"
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "pages.py", page],
        env={**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", of_kind("sh"), ids=names)
def test_the_command_lines_of_a_page_exist(page: Path) -> None:
    for block in blocks(page):
        for arguments in commands(block) if block.kind == "sh" else ():
            try:
                parse(arguments)
            except click.UsageError as error:
                pytest.fail(
                    f"{page.name}:{block.line}: chronocam {' '.join(arguments)}: {error.format_message()}"
                )


def test_a_command_line_that_does_not_exist_is_noticed() -> None:
    parse(["explain", "photo.jpg", "--model", "x", "--target", "cat"])
    for wrong in (["explain", "a", "--model", "x", "--targets", "cat"], ["explian", "a"], ["train", "image"]):
        with pytest.raises(click.UsageError):
            parse(wrong)


def test_a_command_line_is_read_as_a_shell_reads_it() -> None:
    block = Block("sh", "make test\nchronocam explain 'a b' \\\n    --out x  # words\n", 1)
    assert list(commands(block)) == [["explain", "a b", "--out", "x"]]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_and_pictures_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert link.startswith("http") or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_links_within_the_readme_lead_to_its_headings() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= headings


def test_formulas_name_every_method_and_target() -> None:
    text = (DOCS / "formulas.md").read_text(encoding="utf-8")
    for method in (*cc.methods.METHODS.values(), *cc.sequence.METHODS.values()):
        assert f"| `{method.name}` `{method.__name__}` |" in text, f"formulas.md leaves out {method.name}"
    for target in set(cc.targets.__all__) - {"parse"}:
        assert f"`{target}(" in text, f"formulas.md leaves out {target}"


def test_pages_name_every_measure_and_every_kind_of_regions() -> None:
    from chronocam.masks.regions import KINDS

    measures = (DOCS / "evaluate.md").read_text(encoding="utf-8")
    for name in cc.evaluation.MEASURES:
        assert f"`{name}`" in measures, f"evaluate.md leaves out {name}"
    masks = (DOCS / "masks.md").read_text(encoding="utf-8")
    for name in KINDS:
        assert f'"{name}"' in masks, f"masks.md leaves out {name}"


def test_sources_in_the_formulas_are_those_of_the_docstrings() -> None:
    """A paper that a method's docstring names stands in its row."""
    rows = (DOCS / "formulas.md").read_text(encoding="utf-8").splitlines()
    for method in (*cc.methods.METHODS.values(), *cc.sequence.METHODS.values()):
        source = method.__doc__.partition("Source:")[2]
        found = [row for row in rows if row.startswith(f"| `{method.name}` `{method.__name__}` |")]
        for paper in re.findall(r"arXiv:[\d.]+\d", source):
            assert all(paper in row for row in found), f"the row of {method.name} does not name {paper}"


def test_every_public_module_has_a_page() -> None:
    reference = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("api*.md"))
    modules = [thing for name in cc.__all__ if isinstance(thing := getattr(cc, name), ModuleType)]
    for module in modules:
        if module not in (
            cc.data,
            cc.methods,
            cc.runs,
            cc.train,
        ):  # worlds have a section each, training has one; methods are those of `cc`
            shown = f"automodule:: {module.__name__}\n" in reference
            assert shown, f"no page of the reference shows {module.__name__}"


def test_docstrings_become_lists_and_marks_are_escaped() -> None:
    from plain_docstrings import to_rst

    text = "Return |x| of `a|b`.\n\na_b, c: first\n    and more\nd: second\nSource: Name_ 2020."
    expected = [
        *("Return \\|x\\| of `a|b`.", "", "", "- ``a_b``, ``c``: first", "  and more", "- ``d``: second"),
        *("", "Source: Name\\_ 2020."),
    ]
    assert list(to_rst(text)) == expected


def test_an_example_is_shown_as_it_stands() -> None:
    from plain_docstrings import to_rst

    text = "Return a_b.\n\na: first\n\nExample:\n>>> f(a_b, *c)\n'|x|'\n"
    expected = ["Return a\\_b.", "", "", "- ``a``: first"]
    assert list(to_rst(text)) == [*expected, "", ".. rubric:: Example", "", ">>> f(a_b, *c)", "'|x|'", ""]


def test_requests_to_elsewhere_are_noticed() -> None:
    from self_contained import requests

    for html in (
        '<script src="https://a.b/c.js">',
        "<link rel=x href=//a.b/c.css>",
        "<img srcset='http://a.b/c.png 2x'>",
    ):
        assert list(requests(html, ".html")), html
    assert list(requests("@import 'https://a.b/c.css'", ".css"))
    assert not list(requests('<a href="https://a.b"></a><img src="images/a.png">', ".html"))


def test_the_first_lines_of_the_readme_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    from chronocam.lab.packages import packaged_file

    first = next(block for block in blocks(ROOT / "README.md") if block.kind == "python")
    assert len(first.text.splitlines()) == 5  # an import, and three lines
    (tmp_path / "photo.jpg").write_bytes(packaged_file("scikit-image", "coffee.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(first.text, names)
    assert names["explanation"].targets[0][0].name == "espresso"
    assert (tmp_path / "photo.html").stat().st_size > 50_000


def test_the_first_screen_has_a_picture_the_installation_and_the_two_commands() -> None:
    screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:50])
    for part in (
        "](docs/images/dog.jpg)",
        "pip install",
        "make demo",
        "make test",
        "| captum",
        "cc.GradCAM(",
    ):
        assert part in screen


def test_llms_txt_links_to_pages_that_exist() -> None:
    links = re.findall(r"\]\(([\w.-]+)\.html\)", (DOCS / "llms.txt").read_text(encoding="utf-8"))
    assert len(links) > 15
    for name in links:
        assert (DOCS / f"{name}.md").exists(), name


def test_the_changelog_has_no_link_that_leads_nowhere_as_a_page_of_the_documentation() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert all(link.startswith("http") for link in links), links
