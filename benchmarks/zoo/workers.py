"""Architectures run in processes of their own, which have limits and are renewed."""

from __future__ import annotations

import gc
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from typing import Final

import torch

from benchmarks.zoo.build import build
from benchmarks.zoo.outcome import Case, Outcome, outcome_of

AT_ONCE: Final = 24
"""How many architectures the same processes run before they are renewed, since some leave memory behind."""


def run_torch(cases: Sequence[Case], workers: int, minutes: float) -> Iterator[Outcome]:
    """Yield what comes out, from processes of their own, which find the libraries loaded."""
    for name in ("timm", "torchvision.models", "transformers.modeling_utils"):
        import_module(name)
    _quiet()
    end = time.monotonic() + 60 * (minutes or 1e6)
    for start in range(0, len(cases), AT_ONCE):
        with ProcessPoolExecutor(workers, get_context("fork")) as pool:
            some = [pool.submit(_outcome, case, end) for case in cases[start : start + AT_ONCE]]
            for future in as_completed(some):
                outcome = future.result()
                if outcome is not None:
                    yield outcome


def _quiet() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def _outcome(case: Case, end: float) -> Outcome | None:
    if time.monotonic() > end:
        return None
    gc.collect()
    return outcome_of(case, lambda: build(case))
