"""Findings in words, every one chosen by where an interval lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.claims.stats import SAME, plain, pooled, signed, verdict
from benchmarks.claims.video.measures import METHODS, MOVED
from benchmarks.claims.video.results import LAST, Results
from benchmarks.claims.video.world import ARCHS
from chronocam.metrics import Interval

RIGHT = ("answers", "as filmed", "right")
DIFFERENCE = "insertion − deletion"
KNOW_NOTHING = ("random map", "centre prior")
NO_NETWORK = (*KNOW_NOTHING, MOVED)


@dataclass(frozen=True)
class Contrast:
    """One measure of one arm minus another measure or arm."""

    label: str
    kind: str
    arms: tuple[str, str]
    measures: tuple[str, str]

    def of(self, results: Results, arch: str) -> Interval:
        left, right = (
            results.of(arch, self.kind, *pair) for pair in zip(self.arms, self.measures, strict=True)
        )
        return pooled(left - right)


def _above(kind: str, arm: str, measure: str, others: tuple[str, ...]) -> list[Contrast]:
    return [Contrast(f"{measure}: map − {other}", kind, (arm, other), (measure, measure)) for other in others]


PATTERN = (
    Contrast(
        "accuracy on raise and lower: as filmed − shuffled",
        "answers",
        ("order", "order"),
        ("as filmed", "shuffled"),
    ),
    *(
        contrast
        for measure in ("energy", "pointing", "time AUC")
        for contrast in _above("maps", LAST, measure, NO_NETWORK)
    ),
    *(
        Contrast(
            f"two actors, {which} class: own − wrong actor",
            "pairs",
            (LAST, LAST),
            (f"own actor, {which}", f"wrong actor, {which}"),
        )
        for which in ("likelier", "other")
    ),
    *(
        contrast
        for what in ("cells", "frames")
        for contrast in _above("faithful", "gradcam", f"{DIFFERENCE}, {what}", KNOW_NOTHING)
    ),
)
"""What the designs are compared by."""


def pattern(results: Results) -> list[tuple[str, list[tuple[Interval, str]]]]:
    """Return for every contrast its interval and verdict, by architecture."""
    rows = []
    for contrast in PATTERN:
        found = [contrast.of(results, arch) for arch in ARCHS]
        rows.append((contrast.label, [(interval, verdict(interval, "above", "below")) for interval in found]))
    return rows


def findings(results: Results) -> list[str]:
    """Return lines of a list, those that belong to the one before indented."""
    parts = (
        _accuracy,
        _order,
        _where,
        _attention,
        _weights,
        _other_actor,
        _same_pattern,
        _depth,
        _alignment,
        _pooling,
        _trust,
    )
    return [line for part in parts for line in part(results)]


def clauses(found: dict[str, Interval], more: str = "is higher", less: str = "is lower") -> str:
    """Say of every difference how it comes out: `accuracy is higher (+0.020 [+0.010, +0.030]), …`."""
    return ", ".join(
        f"{name} {verdict(interval, more, less)} ({signed(interval)})" for name, interval in found.items()
    )


def _accuracy(results: Results) -> Iterator[str]:
    shares = ", ".join(f"{arch} {plain(results.mean(arch, *RIGHT))}" for arch in ARCHS)
    pairs = ((0, 1), (0, 2), (1, 2))
    gaps = {f"{ARCHS[a]} against {ARCHS[b]}": results.between(ARCHS[a], ARCHS[b], *RIGHT) for a, b in pairs}
    yield f"- **Accuracy** on {results.settings.answers:,} held-out clips: {shares}. {clauses(gaps)}."


def _order(results: Results) -> Iterator[str]:
    lost = {
        arch: results.gap(arch, "answers", ("order", "shuffled"), ("order", "as filmed")) for arch in ARCHS
    }
    mirror = "reversed, named as its mirror"
    mirrored = ", ".join(f"{arch} {plain(results.mean(arch, 'answers', 'order', mirror))}" for arch in ARCHS)
    yield (
        f"- **Order of frames**: with the frames of `raise` and `lower` shuffled, accuracy of {clauses(lost)}. "
        f"Reversed, they are named as each other: {mirrored}."
    )


def _where(results: Results) -> Iterator[str]:
    yield "- **Where Grad-CAM lies**, last stage: share of the map in the action's mask, and on the whole actor:"
    arms = [(arch, arch, LAST) for arch in ARCHS] + [
        (f"the {arm}", ARCHS[0], arm) for arm in (*NO_NETWORK, "truth")
    ]
    for label, arch, arm in arms:
        inside, figure = (plain(results.mean(arch, "maps", arm, name)) for name in ("energy", "figure"))
        yield f"  - {label}: {inside}, {figure}."


def _attention(results: Results) -> Iterator[str]:
    plain_lstm, attending = ARCHS[1:]
    found = {"accuracy": results.between(attending, plain_lstm, *RIGHT)}
    for name in ("energy", "pointing"):
        found[f"{name} of all maps"] = results.between(attending, plain_lstm, "maps", LAST, name)
    for name in ("energy", "pointing"):
        found[f"{name} on clips named right"] = results.between(
            attending, plain_lstm, "maps", LAST, name, right=True
        )
    yield f"- **Attention over the frames**, against the LSTM's last state: {clauses(found)}."


def _weights(results: Results) -> Iterator[str]:
    arch, levels = (
        ARCHS[2],
        ("lie on the active frames", "lie on the idle frames", "tell nothing about active frames"),
    )
    arms = ("weights", "contributions")
    alone = {arm: results.mean(arch, "maps", arm, "AUC") for arm in arms}
    told = ", ".join(
        f"{arm} {verdict(found, *levels, level=0.5)} (AUC {plain(found)})" for arm, found in alone.items()
    )
    gain = results.change(arch, "maps", *arms[::-1], "AUC")
    word = verdict(
        gain, "better than the weights", "worse than the weights", "as good, as far as can be told"
    )
    agreement = results.mean(arch, "maps", "contributions", "rank correlation with weights")
    yield (
        f"- **Attention**: {told}; the class-specific contributions are {word} ({signed(gain)}), and their rank "
        f"correlation is {plain(agreement)}. The frame importance of the same networks' Grad-CAM has an AUC of "
        f"{plain(results.mean(arch, 'maps', LAST, 'time AUC'))}."
    )
    shares = {
        name: results.gap(arch, "maps", ("weights", name), ("random map", name))
        for name in ("during", "after")
    }
    told = clauses(
        {f"{name} the action": found for name, found in shares.items()}, "they have more", "they have less"
    )
    yield f"  - Of the weights beside the share of frames: {told}."
    apart = results.mean(arch, "pairs", "contributions", "AUC apart, both")
    levels = (
        "are higher on the own actor's frames",
        "are higher on the other's frames",
        "do not tell the actors apart",
    )
    yield (
        f"  - On frames on which one of two actors acts alone, contributions {verdict(apart, *levels, level=0.5)} "
        f"(AUC {plain(apart)}; weights are the same for both)."
    )
    names = ("energy", "pointing", "time AUC")
    held = {name: results.change(arch, "maps", f"{LAST} detached", LAST, name) for name in names}
    yield f"  - With the weights detached, {clauses(held)}."


def _other_actor(results: Results) -> Iterator[str]:
    yield "- **Two actors**: does the map for a class lie on the actor who does it?"
    for arch in ARCHS:
        parts = []
        for which, label in (("other", "the less likely class"), ("likelier", "the likelier one")):
            own, wrong = (
                results.mean(arch, "pairs", LAST, f"{name} actor, {which}") for name in ("own", "wrong")
            )
            found = results.gap(arch, "pairs", (LAST, f"own actor, {which}"), (LAST, f"wrong actor, {which}"))
            word = verdict(found, "yes", "no, it lies on the other actor", SAME)
            parts.append(f"for {label} {word} ({plain(own)} on its own, {plain(wrong)} on the wrong one)")
        yield f"  - {arch}: {'; '.join(parts)}."


def _same_pattern(results: Results) -> Iterator[str]:
    rows = pattern(results)
    unlike = [row for row in rows if len({word for _, word in row[1]}) > 1]
    alike = [f"{label} {cells[0][1]}" for label, cells in rows if (label, cells) not in unlike]
    yield f"- **The 3D network** and the LSTM ones agree on {len(alike)} of {len(rows)} contrasts (section 5)."
    if alike:
        yield f"  - All three: {'; '.join(alike)}."
    for label, cells in unlike:
        yield f"  - {label}: {', '.join(f'{arch} {word}' for arch, (_, word) in zip(ARCHS, cells, strict=True))}."


def _depth(results: Results) -> Iterator[str]:
    yield "- **First stages**, beside maps that no network has a part in, and beside the last stage:"
    for arch in ARCHS:
        for method in METHODS:
            first, last = f"{method}@1", f"{method}@{len(results.grids[arch])}"
            beside = {
                name: results.change(arch, "maps", first, last, name) for name in ("energy", "time AUC")
            }
            told = [f"{name} {_beats(results, arch, first, name)}" for name in beside]
            yield f"  - {arch}, {method}: {', '.join(told)}; in comparison with the last stage, {clauses(beside)}."


def _beats(results: Results, arch: str, arm: str, measure: str) -> str:
    """Say which of the maps without a network a map of the first stage is above."""
    others = {name: results.on_grid(name, arch, 1) if name == "random map" else name for name in NO_NETWORK}
    beaten = [
        name
        for name, other in others.items()
        if verdict(results.change(arch, "maps", arm, other, measure), "above", "below") == "above"
    ]
    return f"above the {' and the '.join(beaten)}" if beaten else "above none of them"


def _alignment(results: Results) -> Iterator[str]:
    yield "- **Receptive-field alignment** against half-pixel alignment, last stage:"
    for arch in ARCHS:
        names = ("energy", "frame pointing", "IoU", "time AUC")
        found = {name: results.change(arch, "maps", f"{LAST} align", LAST, name) for name in names}
        yield f"  - {arch}: {clauses(found)}."


def _pooling(results: Results) -> Iterator[str]:
    yield "- **Weights per clip** against weights per frame, last stage:"
    for arch in ARCHS:
        names = ("energy", "pointing", "time AUC", "flicker")
        yield f"  - {arch}: {clauses({name: results.per_clip(arch, 4, name) for name in names})}."


def _trust(results: Results) -> Iterator[str]:
    for what in ("cells", "frames"):
        name = f"{DIFFERENCE}, {what}"
        found = {
            f"{arch} beside {article} {other}": results.change(arch, "faithful", "gradcam", other, name)
            for arch in ARCHS
            for article, other in zip(("a", "the"), KNOW_NOTHING, strict=True)
        }
        yield f"- **Insertion − deletion of {what}**, Grad-CAM: {clauses(found)}."
    still = {arch: results.change(arch, "maps", LAST, "random map", "flicker") for arch in ARCHS}
    yield f"- **Flicker** beside a random map on the same grid: {clauses(still)}."
    shares = []
    for arch in ARCHS:
        parts = [arm for arm in results.networks[arch]["made random"] if arm not in KNOW_NOTHING]
        first, last = (
            plain(results.mean(arch, "made random", part, "Spearman")) for part in (parts[0], parts[-1])
        )
        nothing = plain(results.mean(arch, "made random", "centre prior", "Spearman"))
        shares.append(
            f"{arch} {first} with a random {parts[0]}, {last} with everything random (the centre prior: {nothing})"
        )
    yield f"- **Randomised networks**: rank correlation of a map with its own after the change: {'; '.join(shares)}."
