"""The page of one explanation: one HTML file, which opens from disk and loads nothing.

What is explained hands over plain records of each sample (`SampleMaps`, `SampleRelevance`, `SampleWords`);
`items_of` turns them into the items that the scripts in `assets/` draw, and `write_page` puts everything into
one file.
"""

from chronocam.render.page.captions import SampleWords
from chronocam.render.page.html import write_page
from chronocam.render.page.items import Shown, items_of, title_of
from chronocam.render.page.maps import SampleMaps
from chronocam.render.page.records import PageItem
from chronocam.render.page.sequences import SampleRelevance

__all__ = [
    "PageItem",
    "SampleMaps",
    "SampleRelevance",
    "SampleWords",
    "Shown",
    "items_of",
    "title_of",
    "write_page",
]
