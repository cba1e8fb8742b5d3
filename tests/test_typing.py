"""The documented calls have exact types for mypy and for pyright, and misspelt ones are refused by both."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
USE = ROOT / "tests" / "typing" / "use.py"
REFUSED = {n for n, line in enumerate(USE.read_text().splitlines(), 1) if line.endswith("# refused")}


def run(tool: str, *arguments: str | Path) -> str:
    command = [Path(sys.executable).with_name(tool), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def by_mypy() -> dict[int, str]:
    """Return the errors that mypy finds in the file, by line."""
    said = run("mypy", "--no-error-summary", "--hide-error-context", USE)
    found = re.findall(r"use\.py:(\d+): error: (.*)", said)
    return {int(line): words for line, words in found}


def by_pyright() -> dict[int, str]:
    """Return the errors that pyright finds in the file, by line."""
    said = json.loads(run("basedpyright", "--pythonpath", sys.executable, "--outputjson", USE))
    found = [one for one in said["generalDiagnostics"] if one["severity"] == "error"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_documented_calls_are_typed_and_misspelt_ones_refused(checker: Callable[[], dict[int, str]]) -> None:
    errors = checker()
    assert len(REFUSED) == 9
    assert {line: words for line, words in errors.items() if line not in REFUSED} == {}
    assert set(errors) == REFUSED
