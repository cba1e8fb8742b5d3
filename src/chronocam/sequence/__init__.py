"""Relevance through recurrent networks: which feature at which step drove which output.

explanation = cc.sequence.LRP(model).explain(features, cc.targets.EveryStep())

Methods are one file each; every file here is found and registered. Importing this imports no framework.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from chronocam.sequence.base import METHODS, SequenceMethod
from chronocam.sequence.explanation import SequenceExplanation, load
from chronocam.sequence.settling import Horizon, Settling, Similarity

for _module in iter_modules(__path__):
    if not _module.ispkg:  # the frameworks' own rooms
        import_module(f"{__name__}.{_module.name}")

globals().update({cls.__name__: cls for cls in METHODS.values()})

__all__ = ["METHODS", "Horizon", "SequenceExplanation", "SequenceMethod", "Settling", "Similarity", "load"]
__all__ += sorted(cls.__name__ for cls in METHODS.values())

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[SequenceMethod]: ...
