"""How the documentation is built: `make docs`."""

import sys
from pathlib import Path

import chronocam

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project, author, version = "chronocam", "the chronocam authors", chronocam.__version__
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
extensions += ["plain_docstrings", "public_names", "commands", "mathml", "self_contained"]  # in _ext/
exclude_patterns = ["_build"]
default_role = "code"  # `so` is code in our docstrings and help texts

html_theme = "furo"
html_title = f"chronocam {version}"
html_static_path = ["_static"]
html_css_files = ["chronocam.css"]
html_extra_path = ["llms.txt"]  # what the pages hold, for programs that read them
html_copy_source = False
html_math_renderer = "mathml"
html_show_sphinx = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!chronocam\.).*"),  # other projects' pages would have to be fetched
    (r"py:.*", r".*\._\w+"),  # private names have no entry
    # Nor have records that only the library itself makes and reads.
    (r"py:class", r"chronocam\.render\.(page|sheets)\..*"),
    (r"py:class", r"chronocam\.(sequence\.sample\.SequenceModel|odometry\.scores\.LossOfFrames)"),
    (
        r"py:class",
        r"chronocam\.(maps\.arrays\.Origin|metrics\._deletion\.Cells|detections\.adapters\.base\.Adapter|targets\.words\.\w+)",
    ),
]
