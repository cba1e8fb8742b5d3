"""The pages for those who come from other libraries: their code runs, from top to bottom."""

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["coming-from-xplique.md", "coming-from-tf-keras-vis.md"])
def test_the_code_of_a_page_runs(page: str) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) >= 2
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert names["raw"].shape[2:] == (30, 30)
    assert names["raw"].any()
