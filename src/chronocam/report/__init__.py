"""Pages that show explanations: one HTML file each, which opens from disk and loads nothing.

`Explanation.save("x.html", inputs)` writes the page of one, `write` that of several side by side, and
`write_folder` (`chronocam report FOLDER`) the pages of a folder with an index.
"""

from chronocam.report._write import write
from chronocam.report.folder import write_folder

__all__ = ["write", "write_folder"]
