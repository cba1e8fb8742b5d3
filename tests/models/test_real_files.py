"""Published networks from their files to what their owners know of them; skipped without the data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import run

import chronocam as cc

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

FACES = f"""
import sys
from pathlib import Path
import numpy as np
import chronocam as cc
folder = Path(sys.argv[1])
loaded = cc.models.load(
    str(folder / "fer2013_mini_XCEPTION.102-0.66.hdf5"), preprocess={{"range": (-1, 1)}}, labels={EMOTIONS!r}
)
assert loaded.preprocess.resize == (64, 64) and loaded.preprocess.assumption is None
for name in ("surprise", "happy", "sad", "angry"):
    e = cc.GradCAM(loaded, "add_3").explain(folder / f"{{name}}.png")
    assert e.targets[0][0].name == name, (name, e.targets)
    if name == "happy":
        fine = np.maximum(e.upsample()[0, 0], 0)
        assert fine[32:].sum() > 0.5 * fine.sum()
    guess = cc.GradCAM(cc.models.load(loaded.spec)).explain(folder / f"{{name}}.png")
    assert any("a guess" in text for text in guess.diagnostics)
"""


@pytest.mark.slow
def test_faces_of_a_keras_2_file_are_what_their_owner_says(data: Path) -> None:
    pytest.importorskip("keras")
    folder = data / "real" / "emotion"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    done = subprocess.run([sys.executable, "-c", FACES, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_a_video_network_of_a_factory_knows_what_is_in_a_clip(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    folder = data / "kinetics"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    loaded = cc.models.load("python:movinet_a0:kinetics")
    clip = loaded.preprocess.read(folder / "arm_wrestling.mp4")
    e = cc.GradCAM(loaded).explain(clip)
    assert e.targets[0][0].name == "arm wrestling"
    assert np.isfinite(e.maps).all()
    assert e.dims == ("batch", "target", "time", "height", "width")
    checks = run("doctor", "python:movinet_a0:kinetics", str(folder / "arm_wrestling.mp4"))
    assert checks.exit_code == 0, checks.stdout
    assert "arm wrestling" in checks.stdout
