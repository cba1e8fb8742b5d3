"""Write the pages from the JSON beside them, once their words have changed: `python -m benchmarks.claims`."""

from __future__ import annotations

from benchmarks.claims.odometry.claims import PAGE as ODOMETRY
from benchmarks.claims.page import DOCS
from benchmarks.claims.real.claims import PAGE as REAL
from benchmarks.claims.sequence.claims import PAGE as SEQUENCE
from benchmarks.claims.tables import Record
from benchmarks.claims.video.claims import PAGE as VIDEO

PAGES = (VIDEO, ODOMETRY, SEQUENCE, REAL)

if __name__ == "__main__":
    for page in PAGES:
        numbers = (DOCS / f"{page.name}.json").read_text(encoding="utf-8")
        print(page.publish(Record.from_json(numbers)))
