"""Try the wheel alone, in an environment that has nothing else: `python scripts/try_wheel.py --extra torch`.

Builds the wheel of this checkout unless one is given, installs it into a new environment in a temporary
folder, and does there what someone does first: help texts, lists, a saved explanation as picture and page,
and with the extra a map.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 8 * 2**20  # bytes of the wheel

CORE = """
from pathlib import Path

import chronocam as cc

for name in ("explanation-1", "sequence-1"):
    explanation = cc.load(Path(FILES) / f"{name}.npz")
    for suffix in (".png", ".html"):
        assert explanation.save(name + suffix).stat().st_size > 1000
try:
    cc.models.load("torchvision:resnet18")
except cc.errors.ModelError as error:
    assert "pip install 'chronocam[torch]'" in str(error), error
else:
    raise AssertionError("torchvision was not expected here")
try:
    cc.models.CNNLSTM
except ImportError as error:
    assert "pip install 'chronocam[torch]'" in str(error), error
"""

TORCH = """
import numpy as np

import chronocam as cc

loaded = cc.models.load("chronocam:digits")
images = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
explanation = cc.GradCAM(loaded).explain(images, "3")
assert explanation.maps.shape == (2, 1, 12, 12), explanation
explanation.save("digits.html", images)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", default="", help="such as torch")
    parser.add_argument("--wheel", type=Path, help="made before; one is built where it is left out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        wheel = (asked.wheel or build(home / "dist")).resolve()
        check_contents(wheel)
        venv.create(home / "venv", with_pip=True)
        scripts = home / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        what = f"{wheel}[{asked.extra}]" if asked.extra else str(wheel)
        run(scripts / "python", "-m", "pip", "install", "--quiet", what, cwd=home)
        for words in (["--version"], ["--help"], ["explain", "--help-all"], ["models"], ["methods"]):
            run(scripts / "chronocam", *words, cwd=home)
        script = TORCH if asked.extra else f"FILES = {str(ROOT / 'tests' / 'files')!r}\n{CORE}"
        run(scripts / "python", "-c", script, cwd=home)
    print(f"{wheel.name} works alone{f' with {asked.extra}' if asked.extra else ''}")


def build(out: Path) -> Path:
    """Build the wheel, and return it."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ROOT, cwd=ROOT)
    (wheel,) = out.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Stop where the wheel is too large, or holds anything beside the package and its metadata."""
    size = wheel.stat().st_size
    if size > LARGEST:
        sys.exit(f"{wheel.name} has {size / 2**20:.1f} MB, more than {LARGEST / 2**20:.0f}")
    with zipfile.ZipFile(wheel) as archive:
        others = [name for name in archive.namelist() if not name.startswith(("chronocam/", "chronocam-"))]
    if others:
        sys.exit(f"{wheel.name} holds {', '.join(others)}")


def run(*words: object, cwd: Path) -> None:
    """Run a program, and stop with what it said where it fails."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))[:300]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


if __name__ == "__main__":
    main()
