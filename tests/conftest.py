import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import CHROMIUM, QUIET

# There is a process for each core: threads of their own would get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks are no faster on more threads, and much slower where other processes use them too."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed; pages are not driven")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()
