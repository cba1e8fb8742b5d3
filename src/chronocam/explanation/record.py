"""What an explanation is: raw maps on the layer's grid, and everything that is done with them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

from chronocam._repr import count
from chronocam.errors import InputError, MediaError, printable
from chronocam.explanation.drawing import drawing_of, strip
from chronocam.explanation.file import SOUGHT, read, write
from chronocam.explanation.late import late_fields
from chronocam.explanation.parts import Pick, part_of
from chronocam.maps.arrays import Origin
from chronocam.maps.attention import Attention
from chronocam.maps.frames import frame_importance
from chronocam.maps.normalize import Scope, normalize
from chronocam.maps.regions import Box, boxes
from chronocam.maps.resample import Mode, resample
from chronocam.media._stills import Stills
from chronocam.media.archive import LARGEST, open_archive
from chronocam.media.files import replace_file
from chronocam.render import save_figure
from chronocam.render.notebook import as_png, framed, show
from chronocam.render.page import SampleMaps, SampleWords, items_of, title_of, write_page
from chronocam.types import Array, Finding, Media, TargetInfo, Window
from chronocam.types.targets import WORDS, missing_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_DIMS = {1: ("width",), 2: ("height", "width"), 3: ("time", "height", "width")}
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg")
VIDEOS = (".mp4", ".gif", ".webp")
PAGE = ".html"
_FEW = 4  # samples of a picture in a notebook


@late_fields("findings", "confidences", "copies")
@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps of a batch, with what they explain.

    maps: float32 `(batch, target, *grid)`, raw and unnormalised, on the layer's own grid; float64 where
        `SequenceExplanation.to_frames` made them of such relevance.
    scores: float32 `(batch, target)`, the scores explained.
    targets: per sample and target, what was explained (`name`, and `index` where it is one output).
    method, layer: their names; several fused layers are joined by `+`.
    input_size: the grid of the model's input.
    centers: for each grid axis, the input coordinate of every cell's centre; None tiles the input evenly.
    windows: for each grid axis, what cells see of the input: from stride·i + low to stride·i + high; None
        where the network does not say, and for maps of several layers or on the input's own grid.
    frame_spans: for clips, the first and last input frame of each time slice.
    attention: of models that attend over the frames of a clip, the weights and what each frame contributes.
    findings: remarks, such as a map that is zero everywhere; their texts are the `diagnostics`.
    confidences: the probability that a classifier gives the class explained, `(batch, target)`, by its own
        softmax or sigmoid, else by the softmax of its logits; NaN for a score of several classes or of
        another kind, None where all are.
    pictures: small copies of the inputs, one per sample, which pages are drawn on; None where they were not
        given.
    copies: small copies of the first inputs as the model was given them, uint8 `(sample, *grid, channel)`, on
        which notebooks and pages are drawn where there are no `pictures`; of signals float32. Not kept in
        files.
    preprocess: made the model's input of a picture, where it is known; pictures are drawn as the model saw
        them. Files keep a `Preprocess` or `ClipPreprocess`, and no function.
    interval: half-widths of the 95 % interval of each value, shaped like maps, where a method of masks knows
        them; each holds by itself.
    origin: where the maps were made, for `as_tensor`. Not kept in files.
    sizes: the size of each sample's input where they differ; `input_size` is then the largest of each side.
    on: which of several inputs the maps are of; where all inputs are given to be drawn on, that one is.
    axes: the names of the grid's axes, where they are not those of a picture, a clip or a signal: time and
        feature of a sequence, or word of captions, whose `targets` hold the words.

    Example:
    >>> explanation = cc.GradCAM(model).explain(images, cc.targets.Predicted(2))
    >>> explanation.maps.shape, explanation.upsample().shape
    ((2, 2, 8, 8), (2, 2, 32, 32))
    >>> explanation[0].maps.shape, explanation[:, 1].maps.shape
    ((1, 2, 8, 8), (2, 1, 8, 8))
    >>> explanation.save("maps.png", images).name
    'maps.png'
    """

    maps: Float[np.ndarray, "batch target *grid"]
    scores: Float[np.ndarray, "batch target"]
    targets: tuple[tuple[TargetInfo, ...], ...]
    method: str
    layer: str
    input_size: tuple[int, ...]
    _: KW_ONLY
    centers: tuple[tuple[float, ...], ...] | None = None
    windows: tuple[Window, ...] | None = None
    frame_spans: tuple[tuple[int, int], ...] | None = None
    attention: Attention | None = None
    findings: tuple[Finding, ...] = ()
    confidences: Float[np.ndarray, "batch target"] | None = None
    pictures: tuple[Stills, ...] | None = None
    copies: Shaped[np.ndarray, "sample *places channel"] | None = None
    preprocess: Callable[[Any], Any] | None = None
    sizes: tuple[tuple[int, ...], ...] | None = None
    on: int = 0
    axes: tuple[str, ...] | None = None
    interval: Float[np.ndarray, "batch target *grid"] | None = None
    origin: Origin | None = None

    @property
    def diagnostics(self) -> tuple[str, ...]:
        """The findings, in words."""
        return tuple(finding.text for finding in self.findings)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the maps' axes, such as `("batch", "target", "height", "width")`."""
        return ("batch", "target", *(self.axes or GRID_DIMS[self.maps.ndim - 2]))

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, picked: Pick | tuple[Pick, Pick]) -> Explanation:
        """Return the explanation of some samples, `explanation[0]`, or also targets, `explanation[1:3, 0]`.

        By number, slice, list of numbers or mask, as NumPy takes them; both axes stay, so that one sample is
        a batch of one. Raises IndexError for those that it does not have.
        """
        return part_of(self, picked)

    def __iter__(self) -> Iterator[Explanation]:
        """Yield the explanation of each sample."""
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the upsampled maps; the target axis is dropped when there is one target."""
        maps = self.upsample()
        maps = maps[:, 0] if maps.shape[1] == 1 else maps
        return maps if dtype is None else maps.astype(dtype, copy=False)

    def as_tensor(self) -> Array:
        """Return the maps, `(batch, target, *grid)`, as a tensor of the model's framework, on its device.

        Of a PyTorch model, or one of Keras on PyTorch, a `torch.Tensor`. Nothing is copied: on a GPU maps are
        kept there too, and on the CPU the tensor shares the memory of `maps`. Only maps of several batches,
        which were joined on the host, are copied to the device of the first. Passes of Keras on TensorFlow
        and JAX, and of black boxes, end on the host: then it is `maps`, which functions of either framework
        take, and so it is where an explanation was read from a file.

        Example:
        >>> explanation = cc.GradCAM(model).explain(images)
        >>> tensor = explanation.as_tensor()
        >>> isinstance(tensor, torch.Tensor), tuple(tensor.shape)
        (True, (2, 1, 8, 8))
        """
        return self.maps if self.origin is None else self.origin.of(self.maps)

    def __repr__(self) -> str:
        grid = " × ".join(map(str, self.maps.shape[2:]))
        batch, target = self.maps.shape[:2]
        what = f"{count(batch, 'sample')}, {count(target, 'target')}, grid {grid}"
        return printable(f"Explanation({self.method} at {self.layer}: {what})")

    def upsample(self, size: Sequence[int] | None = None, mode: Mode | None = None) -> np.ndarray:
        """Return maps `(batch, target, *size)`, by default at the input's size.

        `mode` is `"nearest"`, `"linear"` or `"cubic"`; None is cubic, linear for clips. Values stay within
        each raw map's own range; pictures of several sizes are stretched to one. Raises InputError for a size
        of another rank than the grid.
        """
        return self.resampled(self.maps, tuple(size or self.input_size), mode)

    def resampled(self, maps: np.ndarray, size: tuple[int, ...], mode: Mode | None = None) -> np.ndarray:
        """Return other maps on this grid at `size`; see `upsample`."""
        mode = mode or ("cubic" if maps.ndim < 5 else "linear")
        return np.asarray(resample(maps, size, mode, self._centers_at(size)))

    def _centers_at(self, size: tuple[int, ...]) -> list[tuple[float, ...]] | None:
        if self.centers is None or len(size) != len(self.input_size):
            return None
        # Half-pixel coordinates: pixel i covers i to i + 1, so its centre i + 0.5 is what scales.
        scales = [new / old for new, old in zip(size, self.input_size, strict=True)]
        return [tuple((c + 0.5) * s - 0.5 for c in at) for at, s in zip(self.centers, scales, strict=True)]

    def normalize(self, scope: Scope | tuple[float, float] = "sample") -> np.ndarray:
        """Return maps scaled to [0, 1] on their grid.

        One scale per `"frame"`, per `"sample"` (all its targets and frames share it) or for the `"batch"`, or
        given limits `(low, high)`. All-zero maps stay zero.
        """
        missing = self._missing
        if not missing.any():
            return np.asarray(normalize(self.maps, scope))
        return np.where(missing, np.nan, normalize(np.where(missing, 0, self.maps), scope))

    @property
    def _missing(self) -> np.ndarray:
        """Which columns a sample does not have, `(batch, target, 1, …)`: it has fewer boxes than others."""
        marks = missing_in(self.targets)
        return marks.reshape(*marks.shape, *[1] * (self.maps.ndim - 2))

    def columns_of(self, sample: int) -> list[int]:
        """Return the columns that a sample has; the first where it has none, so that there is one to show."""
        return [k for k, info in enumerate(self.targets[sample]) if not info.is_missing] or [0]

    def boxes(self, threshold: float = 0.15, largest: bool = True) -> list[list[list[Box]]]:
        """Return, per sample and target, bounding boxes `(x0, y0, x1, y1)` in input pixels (ends exclusive).

        The region where the upsampled map is at least `threshold` of its maximum: the largest one, or all
        with `largest=False`, largest first. A map without positive values has none.
        """
        if self.sizes is None:
            return [[boxes(one, threshold, largest) for one in row] for row in self.upsample()]
        every = (self.resampled(self.maps[[i]], size)[0] for i, size in enumerate(self.sizes))
        return [[boxes(one, threshold, largest) for one in row] for row in every]

    def overlay(
        self,
        inputs: Media,
        cmap: str | None = None,
        alpha: float = 0.7,
        scope: Scope | tuple[float, float] | None = None,
    ) -> list[list[np.ndarray]]:
        """Return pictures uint8 `(height, width, 3)`, per sample and target, of the maps over `inputs`.

        `inputs` are the images at any size: PIL images, their paths, or arrays with channels last or first;
        of one sample, the image alone will do. Colour follows
        the value (inferno, or a diverging map where a value is negative), opacity its strength; all targets
        of a sample share one scale, and each box has its own, unless `scope` says otherwise.

        Of signals, pictures of their curves: `inputs` are what the model was given.

        Of clips, frames `(time, height, width, 3)`: `inputs` are `Clip` objects, paths, frames with channels
        last, or what the model was given. All frames share the scale; a frame that a looped `Clip` repeats is
        returned once, with the mean of its maps.

        Where the preprocessing of a `Loaded` is known, PIL images, `Clip` objects and paths are originals,
        which are cut to what the model saw of them.

        Raises InputError where `inputs` are not one image or clip per sample.
        """
        return drawing_of(self).overlay(inputs, cmap, alpha, scope)

    def frame_importance(self) -> np.ndarray:
        """Return the share of the positive evidence in each time slice, `(batch, target, time)`; for clips.

        Sums to 1 over the slices, which cover the frames in `frame_spans`; zero for a map without a
        positive value. Raises InputError where the maps have no time.
        """
        if self.maps.ndim != 5:
            raise InputError(f"maps of dims {self.dims} have no time; expected maps of clips")
        return np.asarray(frame_importance(self.maps))

    def plot(self, inputs: Media = None) -> Figure:
        """Return a matplotlib Figure of overlays, or of bare maps.

        For images, a row per sample and a column per target; for captions, the same with a bar for each word.
        For clips, per sample some of the frames, a row with the map of each target, and the curves of frame
        importance.
        """
        return drawing_of(self).sheet(inputs)

    def with_pictures(self, inputs: Media) -> Explanation:
        """Return the explanation with small copies of its inputs, which `.npz` keeps and pages are drawn on.

        `inputs` are as for `overlay`, or `cc.media.Stills`. Raises InputError where they are not one per
        sample.
        """
        return replace(self, pictures=drawing_of(self).copies(inputs))

    def save(self, path: str | Path, inputs: Media = None) -> Path:
        """Write the explanation.

        `.npz` keeps everything, with small copies of `inputs` where they are given; `cc.load` reads it.
        `.html` is a page to look into it with. A picture's suffix draws `plot(inputs)`. For one clip, `.mp4`,
        `.gif` and `.webp` write its overlay as a video at its own pace; of several targets, side by side with
        their names and frame importance. Without `inputs`, a page has those kept, or else the small copies;
        other pictures are of the bare maps.

        Raises MediaError for another suffix or a place that cannot be written; files are written atomically.
        """
        path, of_clips = Path(path), self.maps.ndim == 5
        suffix = path.suffix.lower()
        if suffix in (".npz", PAGE):
            whole = self if inputs is None else self.with_pictures(inputs)
            if suffix == ".npz":
                return replace_file(path, lambda temporary: write(temporary, whole))
            return write_page(path, whole._title(), items_of({self.method: whole}))
        if of_clips and suffix in VIDEOS:
            return drawing_of(self).video(path, inputs)
        if suffix not in PICTURES:
            suffixes = ", ".join([PAGE, *(VIDEOS[:2] if of_clips else ()), *PICTURES])
            raise MediaError(f"cannot save as `{path.name}`; expected .npz or one of {suffixes}")
        return save_figure(self.plot(inputs), path)

    def on_page(self, sample: int) -> SampleMaps | SampleWords:
        """Return what a page draws of one sample."""
        if self.axes == WORDS:
            return SampleWords(
                self.maps[sample],
                [str(info) for info in self.targets[sample]],
                [getattr(info, "words", ()) for info in self.targets[sample]],
                self.scores[sample],
                self.method,
                self.layer,
                self._remarks_on(sample),
                self._picture(sample),
            )
        if self.maps.ndim == 3:  # of signals, which pages show as pictures
            return replace(strip(self).maps_on_page(sample), of_signal=True, pictures=self._picture(sample))
        return self.maps_on_page(sample)

    def _remarks_on(self, sample: int) -> list[str]:
        """Return the texts of the findings that concern a sample, without its number."""
        texts = (finding.text for finding in self.findings if finding.sample in (None, sample))
        return [text.removeprefix(f"sample {sample}, ") for text in texts]

    def maps_on_page(self, sample: int) -> SampleMaps:
        """Return what a page draws of the maps of one sample, of pictures or clips."""
        rows, columns = slice(sample, sample + 1), self.columns_of(sample)
        confidences, attention = self.confidences, self.attention
        return SampleMaps(
            maps=np.nan_to_num(self.maps[rows, columns]) if self._missing.any() else self.maps[rows],
            names=[str(self.targets[sample][k]) for k in columns],
            scores=self.scores[rows, columns],
            confidences=None if confidences is None else confidences[rows, columns],
            method=self.method,
            layer=self.layer,
            findings=self._remarks_on(sample),
            dims=self.dims,
            input_size=self.input_size if self.sizes is None else self.sizes[sample],
            centers=self.centers,
            windows=self.windows,
            spans=self.frame_spans,
            attention=attention and Attention(attention.weights[rows], attention.contributions[rows]),
            pictures=self._picture(sample),
            interval=None if self.interval is None else self.interval[rows, columns],
            boxes=[getattr(self.targets[sample][k], "box", None) for k in columns],
        )

    def _picture(self, sample: int) -> Stills | None:
        """Return what a sample is drawn on: what was kept, or else its small copy."""
        if self.pictures is not None:
            return self.pictures[sample]
        if self.copies is None or sample >= len(self.copies):
            return None
        (picture,) = drawing_of(replace(self, maps=self.maps[:1])).copies(self.copies[sample : sample + 1])
        return picture

    def show(self, inputs: Media = None) -> Path | None:
        """Show the page: in the cell of a notebook, or else in a browser.

        inputs: what it is drawn on, as for `overlay`; None for what is kept of the inputs.

        Returns where the page was written, None in a notebook.
        """
        shown = self if inputs is None else self.with_pictures(inputs)
        return show(shown, shown.save)

    def _title(self) -> str:
        """Return what its page is called."""
        name = self.pictures[0].name if self.pictures is not None and len(self) == 1 else ""
        return title_of(self.targets, f"{self.method} at {self.layer}", name)

    def _repr_html_(self) -> str | None:
        """Return the page for a notebook: the first samples, in a sandboxed frame."""
        drawn = len(self) if self.pictures is not None or self.copies is None else len(self.copies)
        return framed(self, self.method, self._title(), drawn) or None

    def _repr_png_(self) -> bytes | None:
        """Return a picture of the first samples for what shows no pages."""
        pictures = [self._picture(sample) for sample in range(min(len(self), _FEW))]
        media = [picture.as_seen() for picture in pictures if picture is not None and picture.frames]
        first = replace(self[: len(media) or _FEW], pictures=None, preprocess=None)
        return as_png(lambda: first.plot(media or None))

    def to_xarray(self) -> Any:
        """Return the maps as an `xarray.DataArray` with the input coordinates of the cells. Needs xarray."""
        import xarray

        coords = (
            {} if self.centers is None else dict(zip(self.dims[2:], map(list, self.centers), strict=True))
        )
        attrs = {"method": self.method, "layer": self.layer, "input_size": self.input_size}
        return xarray.DataArray(self.maps, dims=self.dims, coords=coords, attrs=attrs, name="map")


def load(path: str | Path, limit: int = LARGEST) -> Explanation:
    """Read an explanation that `Explanation.save` wrote as `.npz`. No code in the file is run.

    limit: as for `cc.load`.

    Raises MediaError for a missing file, and for one that is not a saved explanation. `cc.load` reads
    explanations of sequences too.

    Example:
    >>> path = cc.GradCAM(model).explain(images).save("maps.npz")
    >>> cc.load(path)
    Explanation(gradcam at relu2: 2 samples, 1 target, grid 8 × 8)
    """
    with open_archive(path, SOUGHT, limit) as archive:
        return read(archive, Explanation)
