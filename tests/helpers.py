"""What tests of several rooms need: command lines, seeded networks, errors of one line."""

from collections.abc import Callable
from typing import Any

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
