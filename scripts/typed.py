"""How much of the public interface has types that a reader of the package sees: `python scripts/typed.py`.

Fails where the share, as pyright counts it, falls below the ratchet. `--list` names what is without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LEAST = 0.96


def symbols() -> list[dict[str, Any]]:
    """Return what pyright says of every exported symbol of the package."""
    folder = Path(sys.executable).parent
    # This check takes libraries from the interpreter of the path, whatever --pythonpath says.
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [folder / "basedpyright", "--verifytypes", "chronocam", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    return [symbol for symbol in report["typeCompleteness"]["symbols"] if symbol["isExported"]]


def main() -> int:
    """Print the share of typed symbols, and return the exit status."""
    found = symbols()
    untyped = [symbol for symbol in found if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    share = 1 - len(untyped) / len(found)
    if "--list" in sys.argv:
        for symbol in untyped:
            problems = [problem["message"].splitlines()[0] for problem in symbol["diagnostics"]]
            print(symbol["name"], *problems, sep="\n    ")
    print(f"{share:.1%} of {len(found)} public symbols have a type; at least {LEAST:.0%} is asked for")
    return int(share < LEAST)


if __name__ == "__main__":
    sys.exit(main())
