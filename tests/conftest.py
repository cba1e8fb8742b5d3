import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real pictures, clips and weights; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CHRONOCAM_DATA", default))
    if not folder.is_dir():
        pytest.skip("real data is absent: neither CHRONOCAM_DATA nor ../shared/data is a folder")
    return folder
