"""The suites of Keras on every backend: the longest part of the tests, and so the first."""

import pytest
from on_keras.test_keras import BACKENDS, FOLDER, needs, run


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_suite_passes_on_each_backend(backend: str) -> None:
    needs(backend)
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "-n", "0"]
    run(backend, "-m", "pytest", *options, *sorted(path.name for path in FOLDER.glob("suite_*.py")))
