"""Pages to look into explanations with: one HTML file each, which opens from disk and loads nothing.

cc.report.write("cat.html", cc.explain(model, images, methods=("gradcam", "layercam")), images)

`Explanation.save("x.html", inputs)` writes the page of one, `chronocam report FOLDER` those of a folder and
an index.
"""

from chronocam.report._write import write
from chronocam.report.folder import write_folder

__all__ = ["write", "write_folder"]
