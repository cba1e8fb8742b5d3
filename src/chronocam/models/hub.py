"""Ask the model hub quickly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from chronocam.models.specs import need


@contextmanager
def patient_only_online() -> Iterator[None]:
    """Tell the hub's client that it is offline where its host cannot be found.

    It then serves what is cached and refuses the rest at once; left alone it retries for most of a minute.
    """
    constants: Any = need("huggingface_hub.constants", "hub")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _findable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _findable(url: str) -> bool:
    """Return whether the host of `url` has an address, or a proxy may know one."""
    try:
        return bool(getproxies() or socket.getaddrinfo(urlsplit(url).hostname, None))
    except OSError:
        return False
