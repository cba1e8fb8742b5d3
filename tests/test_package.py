"""What several places say of the package is the same, and all that it holds has its reason."""

import re
import tomllib
import zlib
from pathlib import Path

import pytest

import chronocam as cc

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(cc.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def others() -> list[Path]:
    """Return the files of the package that are no Python."""
    files = (path for path in HOME.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path.relative_to(HOME) for path in files if path.suffix not in (".py", ".pyc")]


def test_version_and_date_are_those_of_the_last_release_in_the_changelog() -> None:
    version, date = re.search(
        r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"), re.M
    ).groups()
    assert version == cc.__version__
    citation = text("CITATION.cff")
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation


def test_python_versions_are_those_that_are_tested() -> None:
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={classified[0]}"
    for matrix in re.findall(r"python: \[(.*)\]", text(".github/workflows/checks.yml")):
        assert re.findall(r"3\.\d+", matrix) == classified
    assert all(version in text("docs/installation.md") for version in classified)


@pytest.mark.parametrize("path", others(), ids=str)
def test_every_bundled_file_has_its_purpose(path: Path) -> None:
    patterns = re.findall(r"^\| `([^`]+)` \| [\d.]+", text("docs/house.md"), re.M)
    assert any(path.match(pattern) for pattern in patterns), f"docs/house.md does not say what {path} is for"


def test_the_wheel_stays_small() -> None:
    files = [path for path in HOME.rglob("*.*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 8 * 2**20


def test_every_dependency_says_what_it_is_for() -> None:
    block = re.search(r"\ndependencies = \[\n.*?\n\[project\.scripts\]", text("pyproject.toml"), re.S)[0]
    for line in block.splitlines():
        if re.match(r' +"(?!chronocam)', line):
            assert "  # " in line, f"no reason given: {line.strip()}"
