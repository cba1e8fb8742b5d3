"""Jobs: inputs are found, explained, drawn and written down, as the commands of `chronocam` do it.

The results are records of `chronocam.records`, one JSON file for each input; `chronocam.report` reads them.
"""

__all__: list[str] = []
