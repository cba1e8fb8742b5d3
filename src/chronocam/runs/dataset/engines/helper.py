"""A process that works at the parts of a run for another one, which runs it with `python -m`."""

from __future__ import annotations

import json
import os
import sys
from threading import Thread

from chronocam.errors import ChronocamError
from chronocam.runs.dataset.engines.local import dealt, work_through
from chronocam.runs.dataset.place import Place
from chronocam.runs.dataset.plan import read_plan
from chronocam.runs.dataset.work import Means, Worker


def main() -> None:
    """Work as a line on stdin says; end when stdin does. The reason of a failure goes to stdout."""
    task = json.loads(sys.stdin.readline())
    # The process that started this one may be killed, and could then not end it.
    Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    plan, k, count = read_plan(Place(task["out"])), task["k"], task["count"]
    try:
        worker = Worker.load(plan, Means(**task["means"]))
        while pending := plan.pending():
            work_through(worker, dealt(pending, k, count))
    except KeyboardInterrupt:
        sys.exit(1)  # who started this process was interrupted too, and says so
    except ChronocamError as error:
        sys.stdout.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
