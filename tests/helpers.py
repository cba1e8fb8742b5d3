"""What tests of several rooms need: command lines, errors of one line, seeded networks, close values."""

import gc
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result


def run(*words: object) -> Result:
    """Run a command line of chronocam in this process."""
    from chronocam.cli import main

    return CliRunner().invoke(main, [str(word) for word in words])


def one_line(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    """Assert that an error's message is one line that holds all of the words."""
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def seeded(make: Callable[[], Any], seed: int = 0, scale: float = 1.0, double: bool = False) -> Any:
    """Return a network in eval mode with the same random weights at every call, times `scale`."""
    import torch

    torch.manual_seed(seed)
    network = make().eval()
    network = network.double() if double else network
    with torch.no_grad():
        for parameter in network.parameters() if scale != 1 else ():
            parameter.mul_(scale)
    return network


def noise(*shape: int, seed: int = 0) -> Any:
    """Return a tensor of normal noise in double precision, the same at every call."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Assert that arrays differ by no more than a share of the largest expected value, which is not zero."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def run_together(*runs: Callable[[], None]) -> None:
    """Run in as many threads; raise what was raised in any."""
    errors: list[BaseException] = []
    ready = threading.Barrier(len(runs))

    def guarded(run: Callable[[], None]) -> None:
        try:
            ready.wait()
            run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def tensors_alive() -> int:
    """Return how many tensors there are, those that wait for the collector among them."""
    import torch

    return sum(type(thing) in (torch.Tensor, torch.nn.Parameter) for thing in gc.get_objects())


def does_not_grow(call: Callable[[], object], rounds: int = 1000) -> None:
    """Assert that calls leave nothing behind: no object, no open file, no memory after the first ones."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def state() -> tuple[int, int, int]:
        gc.collect()
        return len(gc.get_objects()), len(list(Path("/proc/self/fd").iterdir())), resident()

    for _ in range(rounds // 4):
        call()
    objects, files, memory = state()
    for _ in range(rounds - rounds // 4):
        call()
    objects_now, files_now, memory_now = state()
    assert objects_now - objects < 200
    assert files_now <= files
    assert memory_now - memory < 16 * 2**20


class Deliberate(Exception):
    """Raised on purpose, to see what is left behind."""


def kinds_in_docs() -> dict[str, str]:
    """Return what docs/bring-your-model.md says of each kind of file: what works."""
    page = Path(__file__).parents[1] / "docs" / "bring-your-model.md"
    table = page.read_text(encoding="utf-8").partition("## Kind by kind")[2].partition("|---|---|---|\n")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line
    ]
    return {row[0]: row[2] for row in rows}
