import os
from pathlib import Path

import pytest

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # a process for each core: threads of their own would get in each other's way
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real pictures, clips and weights; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CHRONOCAM_DATA", default))
    if not folder.is_dir():
        pytest.skip("real data is absent: neither CHRONOCAM_DATA nor ../shared/data is a folder")
    return folder
