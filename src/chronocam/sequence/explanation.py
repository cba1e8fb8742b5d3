"""The explanation of a sequence: relevance per feature and step, its ledger, and what is read from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from chronocam._repr import count
from chronocam.errors import POSITIVE, InputError, MediaError, check_real, printable
from chronocam.explanation import PAGE, Explanation
from chronocam.explanation.parts import Pick, picked_of
from chronocam.maps.frames import frame_spans
from chronocam.media.archive import LARGEST, open_archive
from chronocam.media.files import replace_file
from chronocam.render import save_figure
from chronocam.render.notebook import as_png, framed, show
from chronocam.render.page import SampleRelevance, items_of, title_of, write_page
from chronocam.render.sheets.sequence import LagCurve, Sequenced, SettlingCurve, sequence_sheet
from chronocam.sequence.deletion import FeatureDeletion, Origin, without
from chronocam.sequence.file import SOUGHT, read, write
from chronocam.sequence.frames import WAYS, to_frames
from chronocam.sequence.settling import (
    Horizon,
    Settling,
    Similarity,
    chance_level,
    horizon,
    most_relevant,
    settled_at,
    similarity,
    without_own,
)
from chronocam.targets.steps import StepInfo
from chronocam.types import Array, TargetInfo
from chronocam.types.findings import note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True, eq=False)
class SequenceExplanation:
    """Relevance of every feature at every step, with what it explains.

    relevance: signed, `(batch, target, time, feature)`, in the model's precision.
    scores: `(batch, target)`, the scores explained.
    targets: per sample and target, what was explained; of targets at one output step, which step it is.
    method: its name.
    ledger: terms `(batch, target)` that sum to the scores; for LRP `input`, `initial_state`, `bias` and
        `stabiliser`, for integrated gradients `input`, `baseline` and `gap`, for gradient × input `input` and
        `unexplained`. Empty for gradients, which sum to nothing.
    diagnostics: findings, in words.
    lengths: how many steps each sample has, where they differ (a PackedSequence): relevance is zero past
        them. None where every sample has all steps.
    origin: what `deletion` runs again: the features, and the model, which is not kept alive; neither saved
        nor copied. None where it was read from a file.

    Example:
        >>> explanation = cc.sequence.LRP(rnn).explain(features, [cc.targets.Class(k) for k in (0, 2)])
        >>> explanation
        SequenceExplanation(lrp: 1 sample, 2 targets, 6 steps × 4 features)
        >>> explanation.top_features(0.25).shape
        (1, 2, 6, 4)
        >>> explanation[:, 1].relevance.shape
        (1, 1, 6, 4)
    """

    relevance: Float[np.ndarray, "batch target time feature"]
    scores: Float[np.ndarray, "batch target"]
    targets: tuple[tuple[TargetInfo, ...], ...]
    method: str
    ledger: dict[str, Float[np.ndarray, "batch target"]] = field(default_factory=dict)
    diagnostics: tuple[str, ...] = ()
    lengths: tuple[int, ...] | None = None
    origin: Origin | None = field(default=None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "origin"}

    def __len__(self) -> int:
        return len(self.relevance)

    def __getitem__(self, picked: Pick | tuple[Pick, Pick]) -> SequenceExplanation:
        """Return the explanation of some samples, `explanation[0]`, or also targets, `explanation[1:3, 0]`.

        By number, slice, list of numbers or mask, as NumPy takes them; both axes stay, so that one sample is
        a batch of one, as long as its own steps. Raises IndexError for those that it does not have.
        """
        rows, columns = picked_of(picked, self.scores.shape)
        at, time = np.ix_(rows, columns), self.relevance.shape[2]
        lengths = None if self.lengths is None else tuple(self.lengths[i] for i in rows)
        longest = max(lengths or (time,))
        return replace(
            self,
            relevance=self.relevance[at][:, :, :longest],
            scores=self.scores[at],
            targets=tuple(tuple(self.targets[i][k] for k in columns) for i in rows),
            ledger={name: values[at] for name, values in self.ledger.items()},
            lengths=lengths if len(set(lengths or ())) > 1 else None,
            origin=self.origin and self.origin.part(rows, columns),
        )

    def __iter__(self) -> Iterator[SequenceExplanation]:
        """Yield the explanation of each sample."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        batch, target, time, feature = self.relevance.shape
        what = f"{count(batch, 'sample')}, {_extent(target, time, feature)}"
        return printable(f"SequenceExplanation({self.method}: {what})")

    @property
    def steps(self) -> Int[np.ndarray, " target"] | None:
        """The output step that each target explains, `(target,)`; None where one explains no single step."""
        first = [info.step for row in self.targets[:1] for info in row if isinstance(info, StepInfo)]
        return np.array(first) if self._without_step() is None else None

    @property
    def votes(self) -> Int[np.ndarray, "batch target"] | None:
        """The class of largest logit at each target's output step; None where one explains no single step."""
        votes = [[info.vote for info in row if isinstance(info, StepInfo)] for row in self.targets]
        return np.array(votes) if self._without_step() is None else None

    @property
    def consecutive(self) -> bool:
        """Whether there is one target per output step, in order, and features came in at each of these steps.

        If so, `own`, `settling`, `memory_horizon` and what else compares steps can be read.
        """
        return self._not_consecutive() is None

    def own(self) -> Float[np.ndarray, "batch step feature"]:
        """Return the relevance of every output step's own features, those that came in at that step."""
        steps = self._consecutive()
        return self.relevance[:, np.arange(len(steps)), steps]

    def summed(self) -> Float[np.ndarray, "batch step feature"]:
        """Return the relevance for every output step, summed over the steps at which features came in."""
        self._consecutive()
        return self.relevance.sum(axis=2)

    def steady_state(self, last: float = 0.25, of: str = "own") -> Float[np.ndarray, "batch feature"]:
        """Return the mean profile of the last share `last` of the output steps, of at least one.

        of: `"own"` or `"summed"`: the profile of a step.
        """
        expected = "a share of the steps, more than 0, at most 1, such as 0.25"
        check_real("last", last, expected, POSITIVE, 1)
        profiles = self._profiles(of)
        return profiles[:, -_last_steps(last, profiles.shape[1]) :].mean(axis=1)

    def voted(self, of: str = "own") -> Float[np.ndarray, "batch feature"]:
        """Return the mean profile of the steps that voted for the class that most steps voted for.

        Of classes with as many votes, the one with the lower index.
        """
        profiles, votes = self._profiles(of), np.asarray(self.votes)
        counted = (np.unique(row, return_counts=True) for row in votes)
        winners = np.array([classes[np.argmax(counts)] for classes, counts in counted])
        weights = (votes == winners[:, None]).astype(profiles.dtype)
        return (profiles * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)

    def settling(
        self,
        tolerance: float = 0.1,
        *,
        k: int | None = None,
        last: float = 0.25,
        of: str = "own",
        steady: Array | None = None,
    ) -> Settling:
        """Compare the relevance at each output step with the steady state.

        A step of the steady state is left out of what it is compared with: the mean of the others, or the
        step before where it is the only one. A steady state that is given is compared with as it is.

        tolerance: how far below 1 the cosine may stay.
        k: how many features the Jaccard index compares; None is a tenth of them.
        last, of: see `steady_state`.
        steady: another steady state, `(feature,)` or `(batch, feature)`, such as that of a training clip.

        Needs one target per output step, in order: `EveryStep`.
        """
        profiles, k = self._profiles(of), self._k(k)
        reference = self.steady_state(last, of) if steady is None else np.asarray(steady)
        shapes = (profiles.shape[2:], profiles.shape[::2])
        if reference.shape not in shapes:
            raise InputError(f"steady has shape {reference.shape}; expected {shapes[0]} or {shapes[1]}")
        reference = np.broadcast_to(reference, shapes[1])
        others = reference[:, None]
        if steady is None:
            others = without_own(profiles, _last_steps(last, profiles.shape[1]))
        alike = similarity(profiles, others, k)
        at, steps = settled_at(alike.cosine, tolerance), self._consecutive()
        settled = np.where(at < 0, -1, steps[at])
        return Settling(alike, settled, reference, steps, chance_level(profiles, others, k))

    def compare(
        self, other: SequenceExplanation, *, k: int | None = None, last: float = 0.25, of: str = "own"
    ) -> Similarity:
        """Compare the steady states of these samples with those of the other's, `(batch, other batch)`."""
        mine, others = self.steady_state(last, of), other.steady_state(last, of)
        return similarity(mine[:, None], others[None], self._k(k))

    def memory_horizon(self) -> Horizon:
        """Return relevance against lag: how far back the features of an output lie. Needs `EveryStep`."""
        return horizon(self.relevance, self._consecutive(), self.lengths)

    def top_features(
        self, share: float = 0.1, by: str = "count"
    ) -> Bool[np.ndarray, "batch target time feature"]:
        """Return a mask of the most relevant features of every step, those with positive relevance only.

        by: `"count"`, a share of the features, rounded up; or `"mass"`, as few features as hold a share of
            the step's positive relevance.
        """
        return most_relevant(self.relevance, share, by)

    def deletion(
        self, share: float = 0.1, *, by: str = "count", baseline: Array | float = 0.0, seed: int = 0
    ) -> FeatureDeletion:
        """Return the scores without the most relevant features of every step, and with them alone.

        share, by: which these are, as in `top_features`: each target has its own.
        baseline: what takes the place of features: a number, or an array that broadcasts to `(batch, time,
            feature)`.
        seed: of the features that are chosen at random, for comparison.

        The model is run three times per sample and target, without gradients. Classes are those that were
        explained. Raises InputError where the model is gone or has changed, and for explanations from files,
        which hold neither model nor features: explain again.
        """
        if self.origin is None:
            raise InputError("an explanation from a file has no model and features to run; explain again")
        return without(self.origin, self.scores, self.top_features(share, by), baseline, seed)

    def to_frames(
        self,
        cnn: object,
        frames: Array,
        *,
        how: str = "conserve",
        share: float | None = None,
        by: str = "mass",
        layer: object = None,
    ) -> Explanation:
        """Return where in each frame the relevance of its step's features lies, as signed maps.

        cnn: a 2D CNN in eval mode, from frames `(n, channel, height, width)` to the features explained `(n,
            feature)`, or `(n, feature, height, width)`, averaged over the grid; or a model such as `CNNLSTM`,
            whose `features` are used. It runs once for all targets, a few frames at a time.
        frames: `(batch, time, channel, height, width)`, floats as the CNN takes them.
        how: `"conserve"`, Σ_k R_k A_k / Σ A_k with activations A at a layer whose average over the grid the
            features are: each map sums to its step's relevance, spread evenly where the activations of a
            channel cancel (|Σ A_k| ≤ 1e-4 Σ|A_k|). `"gradcam"`, Grad-CAM of Σ_k R_k f_k with R_k held
            constant, at any layer. `"guided"`, guided backpropagation of Σ_k R_k f_k to the pixels, summed
            over the channels.
        share, by: keep the most relevant features of each step only, as in `top_features`; None keeps all.
        layer: path, object or index; None is the CNN's last layer with a grid.

        Raises InputError for frames or features of other shapes, LayerError for a layer that the way does not
        suit.
        Source: Selvaraju et al. 2017 (arXiv:1610.02391), eq. 1; Springenberg et al. 2015 (arXiv:1412.6806).
        """
        relevance = self.relevance if share is None else self.relevance * self.top_features(share, by)
        in_frames = to_frames(relevance, cnn, frames, how, layer)
        chosen = "" if share is None else f", of the most relevant features of each step ({share:g} by {by})"
        time = relevance.shape[2]
        return Explanation(
            in_frames.maps,
            self.scores,
            self.targets,
            f"{self.method}+{how}",
            in_frames.layer,
            (time, *in_frames.grid),
            centers=in_frames.centers,
            frame_spans=frame_spans(time, time),
            findings=tuple(
                note(text)
                for text in dict.fromkeys(
                    [*self.diagnostics, f"{how}: {WAYS[how]}{chosen}", *in_frames.notes]
                )
            ),
        )

    def plot(self, sample: int = 0) -> Figure:
        """Return a matplotlib Figure of one sample: its relevance, settling, memory horizon and ledger.

        Up to three targets are drawn over input step and feature each; of more, each output step's own
        features, and the mean |relevance| for every output and input step. Settling and horizon need targets
        of consecutive output steps (`EveryStep`), the ledger a method that has one. Raises InputError for a
        sample that does not exist.
        """
        if not 0 <= sample < len(self):
            raise InputError(f"no sample {sample}; the explanation holds {len(self)}, 0 to {len(self) - 1}")
        of = f", sample {sample}" if len(self) > 1 else ""
        heading = f"{self.method}{of}: {_extent(*self._of(sample).shape)}"
        return sequence_sheet(self.drawn(sample), heading)

    def _of(self, sample: int) -> Float[np.ndarray, "target time feature"]:
        """Return the relevance of one sample, without what pads it."""
        return self.relevance[sample, :, : None if self.lengths is None else self.lengths[sample]]

    def drawn(self, sample: int) -> Sequenced:
        """Return what plots and pages show of one sample."""
        profiles = self.own()[sample] if self.consecutive else None
        return Sequenced(
            self._of(sample),
            [str(info) for info in self.targets[sample]],
            self.scores[sample],
            {name: values[sample] for name, values in self.ledger.items()},
            self.steps,
            profiles,
            None if profiles is None or len(profiles) < 2 else self._settling_curve(sample),
            None if profiles is None else self._lag_curve(sample),
        )

    def on_page(self, sample: int) -> SampleRelevance:
        """Return what a page draws of one sample."""
        return SampleRelevance(self.drawn(sample), self.method, self.diagnostics)

    def _settling_curve(self, sample: int) -> SettlingCurve:
        tolerance = 0.1
        settling = self.settling(tolerance)
        alike = settling.similarity
        return SettlingCurve(
            settling.steps,
            alike.cosine[sample],
            alike.spearman[sample],
            alike.jaccard[sample],
            int(settling.settled[sample]),
            tolerance,
            settling.chance.cosine[sample],
        )

    def _lag_curve(self, sample: int) -> LagCurve:
        lags = self.memory_horizon()
        return LagCurve(lags.lags, lags.share[sample], int(lags.reach()[sample]))

    def save(self, path: str | Path, sample: int = 0) -> Path:
        """Write the explanation.

        `.npz` keeps all of it, for `cc.load`; `.html` is a page to look into it with; png, pdf and
        svg are pictures of one sample.

        Raises MediaError for another suffix or a place that cannot be written; files are written atomically.
        """
        path = Path(path)
        if path.suffix == ".npz":
            return replace_file(path, lambda temporary: write(temporary, self))
        if path.suffix.lower() == PAGE:
            return write_page(path, self._title(), items_of({self.method: self}))
        if path.suffix.lower() not in PICTURES:
            suffixes = ", ".join([PAGE, *PICTURES])
            raise MediaError(f"cannot save as `{path.name}`; expected .npz or one of {suffixes}")
        return save_figure(self.plot(sample), path)

    def show(self) -> Path | None:
        """Show the page: in the cell of a notebook, or else in a browser.

        Returns where the page was written, None in a notebook.
        """
        return show(self, self.save)

    def _title(self) -> str:
        """Return what its page is called."""
        return title_of(self.targets, f"{self.method} of {self.relevance.shape[2]} steps")

    def _repr_html_(self) -> str | None:
        """Return the page for a notebook: the first samples, in a sandboxed frame."""
        return framed(self, self.method, self._title(), len(self)) or None

    def _repr_png_(self) -> bytes | None:
        """Return a picture of the first sample for what shows no pages."""
        return as_png(self.plot)

    def _without_step(self) -> TargetInfo | None:
        """Return the first target that explains no single step."""
        infos = (info for row in self.targets for info in row)
        return next((info for info in infos if not isinstance(info, StepInfo)), None)

    def _not_consecutive(self) -> str | None:
        """Return why the targets do not stand for one step each, in order; None where they do."""
        steps = self.steps
        if steps is None:
            return (
                f"target `{self._without_step()}` explains no single step; explain with "
                "cc.targets.EveryStep() or Step(…)"
            )
        if not len(steps):
            return "the explanation has no samples, or no targets; expected one of each step"
        if not np.array_equal(steps, np.arange(steps[0], steps[0] + len(steps))):
            return f"targets explain the steps {steps.tolist()[:8]}; expected one of each: EveryStep()"
        shortest = min(self.lengths or self.relevance.shape[2:3])
        if steps[-1] >= shortest:
            return (
                f"outputs reach step {steps[-1]} but features only {shortest - 1}: outputs have no "
                "features of their own; expected a model with one output per step"
            )
        return None

    def _consecutive(self) -> Int[np.ndarray, " step"]:
        """Return the output steps. Raises InputError where they are not consecutive."""
        problem, steps = self._not_consecutive(), self.steps
        if problem is not None or steps is None:
            raise InputError(problem or "targets explain no steps")
        return steps

    def _profiles(self, of: str) -> np.ndarray:
        if of not in ("own", "summed"):
            raise InputError(
                f"no profile `{of}`; choose own (of the step's features) or summed (over all steps)"
            )
        return self.own() if of == "own" else self.summed()

    def _k(self, k: int | None) -> int:
        return max(1, round(self.relevance.shape[3] / 10)) if k is None else k


def _extent(targets: int, steps: int, features: int) -> str:
    return f"{count(targets, 'target')}, {count(steps, 'step')} × {count(features, 'feature')}"


def _last_steps(share: float, steps: int) -> int:
    return max(1, round(share * steps))


def load(path: str | Path, limit: int = LARGEST) -> SequenceExplanation:
    """Read an explanation that `SequenceExplanation.save` wrote. No code in the file is run.

    limit: as for `cc.load`.

    Raises MediaError if the file is missing or does not hold an explanation of a sequence.

    Example:
        >>> path = cc.sequence.LRP(rnn).explain(features, 0).save("relevance.npz")
        >>> cc.sequence.load(path).method
        'lrp'
    """
    with open_archive(path, SOUGHT, limit) as archive:
        return read(archive, SequenceExplanation)
