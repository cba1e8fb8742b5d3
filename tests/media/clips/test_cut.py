"""Files that are cut off are refused, whole ones are not."""

from pathlib import Path

import numpy as np
import pytest
from clip_files import (
    FORMATS,
    HEIGHT,
    WIDTH,
    animation,
    cut,
    encode,
    encoder,
    fails,
    numbered,
    numbers,
    remuxed,
)

from chronocam.media.clips import video as clips_video
from chronocam.media.clips.read import read_clip

av = pytest.importorskip("av")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "vp9.webm", "mpeg4.avi", "h264.avi"])
@pytest.mark.parametrize("share", [0.7, 0.75, 0.8])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str, share: float) -> None:
    codec, options = FORMATS.get(name, ("libx264", {}))
    path = encode(tmp_path / name, codec=encoder(codec), **options)
    if name == "a.mp4":
        path = remuxed(path, tmp_path / "b.mp4", "+faststart")
    path = cut(path, share)
    assert numbers(read_clip(path, 5, "contiguous")) == [0, 1, 2, 3, 4]
    assert numbers(read_clip(path, 3, end=0.4)) == [0, 4, 9]
    message = fails(
        "is cut off", "of the 4 frames wanted can be decoded", "of about 60 are", path=path, frames=4
    )
    held, end = int(message.split(", ")[1].split()[0]), float(message.split("end=")[1])
    assert 10 < held < 55
    assert end == pytest.approx((held - 1) / 25, abs=0.01)
    expected = sum(n < held for n in (0, 19, 39, 59))
    assert f": {expected} of the 4" in message
    clip = read_clip(path, 4, end=end)
    assert numbers(clip) == clip.indices.tolist()
    if name != "h264.avi":  # which may lose a frame before the last
        assert numbers(read_clip(path, 1, start=end)) == [held - 1]
    fails("is cut off", path=path, frames=4, end=2.3)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cut_off_before_the_index(tmp_path: Path, plain: Path, share: float) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(plain.read_bytes())
    fails("cut.mp4", "is cut off before its index", "fetch it again", path=cut(path, share))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "vp9.webm", "a.ts", "a.webp"])
def test_whole_files_are_not_cut_off(tmp_path: Path, name: str) -> None:
    if name == "a.webp":
        path = animation(tmp_path / name, [100, 100])
    else:
        codec, options = FORMATS.get(name, ("libx264", {}))
        path = encode(tmp_path / name, 20, codec=encoder(codec), **options)
    assert not clips_video.is_cut_off(path)
    if not name.endswith(".ts"):
        path.write_bytes(path.read_bytes()[:-1])
        assert clips_video.is_cut_off(path)


def test_sound_that_goes_on_is_no_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=44100)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        noise.rate, noise.pts = 44100, 0
        container.mux([*audio.encode(noise), *audio.encode(None)])
    assert numbers(read_clip(path, 2)) == [0, 9]
