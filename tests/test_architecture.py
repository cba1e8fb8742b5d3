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


LISTED = """
    methods sequence targets masks.regions detections.adapters evaluation.measures runs.dataset.inputs
    runs.dataset.engines
"""
BY_PATH = {"chronocam.runs.dataset.engines.helper"}  # run as a program


@pytest.mark.parametrize("folder", LISTED.split())
def test_a_folder_names_every_file_that_is_in_it(folder):
    graph = grimp.build_graph("chronocam", exclude_type_checking_imports=True, cache_dir=None)
    for module in graph.find_children(f"chronocam.{folder}") - BY_PATH:
        if not graph.find_children(module):  # the frameworks' own rooms are loaded by name
            assert graph.find_modules_that_directly_import(module), f"{folder} does not import {module}"


def test_what_registers_by_being_defined_is_public():
    import chronocam as cc
    from chronocam.detections.adapters import ADAPTERS, Adapter

    public = {getattr(cc.evaluation, name) for name in cc.evaluation.__all__ if name != "MEASURES"}
    assert set(cc.evaluation.MEASURES.values()) <= public
    families, inferred = [Adapter], set()
    while families:
        family = families.pop()
        families += family.__subclasses__()
        if "fits" in vars(family) and family is not Adapter and family.__module__.startswith("chronocam."):
            inferred.add(family)
    assert inferred <= set(ADAPTERS.values())


def test_every_method_file_registers_and_is_public():
    import chronocam as cc

    for name, method in METHODS.items():
        assert getattr(cc, method.__name__) is method
        assert name == name.lower()
        assert "Source:" in method.__doc__, f"{name} does not state its source"
