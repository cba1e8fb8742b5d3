"""Jobs: inputs are found, explained, drawn and written down, as the commands of `chronocam` do it.

`doctor` examines a model. `run` explains a data set into a folder that can be resumed, and `open` reads it.
Results of single inputs are records of `chronocam.records`, one JSON file for each input; `chronocam.report`
reads them.
"""

from typing import TYPE_CHECKING

from chronocam._lazy import lazily as _lazily

if TYPE_CHECKING:
    from chronocam.runs.checkup import Check, doctor
    from chronocam.runs.dataset.run import run
    from chronocam.runs.dataset.table import Table, open
else:
    __getattr__, __dir__ = _lazily(
        __name__,
        {".checkup": ["Check", "doctor"], ".dataset.run": ["run"], ".dataset.table": ["Table", "open"]},
    )

__all__ = ["Check", "Table", "doctor", "open", "run"]
