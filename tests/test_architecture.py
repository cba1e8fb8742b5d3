"""The layers of the house hold, and registries are the one place that knows what there is."""

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from chronocam.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


def test_modules_import_only_from_lower_layers():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "3 kept, 0 broken" in done.stdout


def imports_between(rooms):
    """Return which module (or room: package or module right below chronocam) imports which at run time."""
    graph = grimp.build_graph("chronocam", exclude_type_checking_imports=True, cache_dir=None)
    arrows = {}
    for module in graph.modules - {"chronocam"}:
        for other in graph.find_modules_directly_imported_by(module):
            here, there = ((".".join(name.split(".")[:2]) if rooms else name) for name in (module, other))
            if here != there and there != "chronocam":
                arrows.setdefault(here, set()).add(there)
    return arrows


@pytest.mark.parametrize("rooms", [False, True], ids=["modules", "rooms"])
def test_nothing_imports_in_a_circle(rooms):
    try:
        TopologicalSorter(imports_between(rooms)).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_method_file_registers_and_is_public():
    import chronocam as cc

    for name, method in METHODS.items():
        assert getattr(cc, method.__name__) is method
        assert name == name.lower()
        assert "Source:" in method.__doc__, f"{name} does not state its source"
