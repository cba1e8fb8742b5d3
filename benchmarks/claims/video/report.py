"""The page: findings, settings, tables."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from benchmarks.claims.stats import apart, each, plain, pooled, signed, verdict
from benchmarks.claims.video import words
from benchmarks.claims.video.findings import DIFFERENCE, KNOW_NOTHING, NO_NETWORK, findings, pattern
from benchmarks.claims.video.measures import METHODS, named
from benchmarks.claims.video.results import LAST, Results
from benchmarks.claims.video.world import ARCHS, SEED
from chronocam.lab.data.gestures import LABELS

CLASSES = ("likelier", "other")
PHASES = ("before", "during", "after")
SPACE_TIME = ("energy", "pointing", "frame pointing", "IoU", "time IoU", "time AUC")
FIGURE = ("figure", "pointing figure")


def report(results: Results) -> str:
    settings = results.settings
    seeds = " / ".join(map(str, sorted({len(seeds) for seeds in results.seeds.values()})))
    how = words.HOW.format(
        seeds=seeds,
        seed=SEED,
        answers=settings.answers,
        maps=settings.maps,
        pairs=settings.pairs,
        faithful=settings.faithful,
        torch=torch.__version__,
        machine=platform.machine(),
        commands="\n".join(f"      {command}" for command in results.commands),
    )
    parts = [words.HEAD, *(f"{line}\n" for line in findings(results)), how]
    for section in (
        accuracy,
        attention_helps,
        attention_weights,
        two_actors,
        designs,
        depth,
        alignment,
        pooling,
        trust,
    ):
        parts += (f"\n{part}" for part in section(results))
    return "".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def accuracy(results: Results) -> list[str]:
    right = {arch: results.of(arch, "answers", "as filmed", "right") for arch in ARCHS}
    counts = {len(values) for values in right.values()}
    numbered = [f"training {n + 1}" for n in range(max(counts))]
    by_class = [
        [arch, *(plain(pooled(values[:, _answered(results) == c])) for c in range(len(LABELS)))]
        for arch, values in right.items()
    ]
    order = list(results.networks[ARCHS[0]]["answers"]["order"])
    changed = [
        [arch, *(plain(results.mean(arch, "answers", "order", name)) for name in order)] for arch in ARCHS
    ]
    clips = results.of(ARCHS[0], "answers", "order", order[0]).shape[1]
    return [
        words.ACCURACY,
        table(
            ["", "all", *numbered],
            [[arch, plain(pooled(v)), *map(plain, each(v))] for arch, v in right.items()],
        ),
        "By class:\n",
        table(["", *LABELS], by_class),
        words.ORDER.format(clips=clips),
        table(["", *order], changed),
    ]


def _answered(results: Results) -> np.ndarray:
    return results.labels[: results.settings.answers]


def attention_helps(results: Results) -> list[str]:
    pair = ARCHS[1:]
    kept = results.right(*pair)
    asked = [("answers", "as filmed", "right", "accuracy", False)]
    asked += [("maps", LAST, name, name, False) for name in (*SPACE_TIME, *FIGURE)]
    asked += [("maps", LAST, name, f"{name}, clips named right", True) for name in ("energy", "pointing")]
    rows = []
    for kind, arm, name, label, right in asked:
        values = [results.of(arch, kind, arm, name)[:, kept if right else slice(None)] for arch in pair]
        found = apart(values[1], values[0])
        word = verdict(found, "higher", "lower")
        rows.append([label, *(plain(pooled(v)) for v in values), signed(found), word])
    return [
        words.ATTENTION_HELPS.format(kept=len(kept)),
        table(["", *pair, "difference", "with attention"], rows),
    ]


def attention_weights(results: Results) -> list[str]:
    arch = ARCHS[2]
    agreement = results.mean(arch, "maps", "contributions", "rank correlation with weights")
    pair = (f"{LAST} detached", LAST)
    held = [
        [name, *(plain(results.mean(arch, "maps", arm, name)) for arm in pair[::-1]), signed(found)]
        for name in SPACE_TIME
        for found in [results.change(arch, "maps", *pair, name)]
    ]
    return [
        words.WEIGHTS,
        table(
            ["", "one actor", "two, likelier class", "two, other class", "own against other's"],
            _weights(results, arch),
        ),
        words.PHASES,
        table(["", *PHASES], _phases(results)),
        words.AGREEMENT.format(agreement=plain(agreement)),
        table(["", "through the weights", "weights detached", "difference"], held),
    ]


def _weights(results: Results, arch: str) -> list[list[str]]:
    columns = [
        ("maps", "AUC"),
        *(("pairs", name) for name in ("AUC, likelier", "AUC, other", "AUC apart, both")),
    ]
    arms = ("contributions", "weights")
    rows = [[arm, *(plain(results.mean(arch, kind, arm, name)) for kind, name in columns)] for arm in arms]
    rows.append(
        [" − ".join(arms), *(signed(results.change(arch, kind, *arms, name)) for kind, name in columns)]
    )
    for arm in (LAST, *NO_NETWORK):
        two = [results.of(arch, "pairs", arm, f"time AUC, {which}") for which in CLASSES]
        lone = [results.of(arch, "pairs", arm, f"time AUC apart, {which}") for which in CLASSES]
        values = [results.of(arch, "maps", arm, "time AUC"), *two, np.mean(lone, axis=0)]
        rows.append([f"frame importance, {arm}", *(plain(pooled(v)) for v in values)])
    return rows


def _phases(results: Results) -> list[list[str]]:
    arms = [("attention weights", ARCHS[2], "weights")]
    arms += [(f"frame importance, {arch}, {LAST}", arch, LAST) for arch in ARCHS]
    arms += [(f"frame importance, {arm}", "r3d", arm) for arm in NO_NETWORK]
    return [
        [label, *(plain(results.mean(arch, "maps", arm, name)) for name in PHASES)]
        for label, arch, arm in arms
    ]


def two_actors(results: Results) -> list[str]:
    columns = [
        "own actor",
        "wrong actor",
        "own share",
        "own action",
        "pointing own",
        "pointing wrong",
        "time AUC apart",
    ]
    rows = []
    arms = [(f"{arch}, {arm}", arch, arm) for arm in (LAST, "layercam@4") for arch in ARCHS]
    for label, arch, arm in [*arms, *((arm, "r3d", arm) for arm in NO_NETWORK)]:
        for which in CLASSES:
            cells = [plain(results.mean(arch, "pairs", arm, f"{name}, {which}")) for name in columns]
            rows.append([label, which, *cells])
    top = ", ".join(
        f"{arch} {plain(results.mean(arch, 'pairs', 'classes', 'are the top two'))}" for arch in ARCHS
    )
    return [
        words.TWO_ACTORS.format(top=top),
        table(["", "class", *columns], rows),
    ]


def designs(results: Results) -> list[str]:
    rows = [
        [label, *(f"{signed(found)} {word}" for found, word in cells)] for label, cells in pattern(results)
    ]
    lines = []
    for name in (*SPACE_TIME, *FIGURE):
        found = [results.between("r3d", other, "maps", LAST, name) for other in ARCHS[1:]]
        lines.append(
            [name, *(plain(results.mean(arch, "maps", LAST, name)) for arch in ARCHS), *map(signed, found)]
        )
    return [
        words.DESIGNS,
        table(["", *ARCHS], rows),
        words.VALUES,
        table(["", *ARCHS, "r3d − cnn-lstm", "r3d − cnn-lstm-attention"], lines),
        "Energy inside by class:\n",
        table(["", *LABELS], _by_class(results, "energy")),
        "Pointing by class:\n",
        table(["", *LABELS], _by_class(results, "pointing")),
    ]


def _by_class(results: Results, measure: str) -> list[list[str]]:
    labels = results.labels[: results.settings.maps]
    arms = [(arch, arch, LAST) for arch in ARCHS]
    arms += [(results.on_grid(arm, arch), arch, arm) for arm in ("random map", "truth") for arch in ARCHS[:2]]
    arms += [(arm, "r3d", arm) for arm in NO_NETWORK[1:]]
    return [
        [
            label,
            *(
                plain(pooled(results.of(arch, "maps", arm, measure)[:, labels == c]))
                for c in range(len(LABELS))
            ),
        ]
        for label, arch, arm in arms
    ]


def depth(results: Results) -> list[str]:
    header = ["", "stage", "grid", *SPACE_TIME, *FIGURE, "energy − random", "time AUC − random"]
    parts = [
        words.DEPTH,
    ]
    for arch in ARCHS:
        parts += [f"### {arch}\n", table(header, [*_stages(results, arch), *_references(results, arch)])]
    return parts


def _stages(results: Results, arch: str) -> list[list[str]]:
    rows = []
    for method in METHODS:
        for stage, grid in enumerate(results.grids[arch], 1):
            arm, noise = f"{method}@{stage}", results.on_grid("random map", arch, stage)
            cells = [plain(results.mean(arch, "maps", arm, name)) for name in (*SPACE_TIME, *FIGURE)]
            above = [
                signed(results.change(arch, "maps", arm, noise, name)) for name in ("energy", "time AUC")
            ]
            rows.append([method, str(stage), named(grid), *cells, *above])
    return rows


def _references(results: Results, arch: str) -> list[list[str]]:
    grids = dict.fromkeys(named(grid) for grid in results.grids[arch])
    arms = [(arm, grid, f"{arm} {grid}") for arm in ("random map", "truth") for grid in grids]
    return [
        [
            label,
            "",
            grid,
            *(plain(results.mean(arch, "maps", arm, name)) for name in (*SPACE_TIME, *FIGURE)),
            "",
            "",
        ]
        for label, grid, arm in [*arms, *((arm, "", arm) for arm in NO_NETWORK[1:])]
    ]


def alignment(results: Results) -> list[str]:
    rows = []
    for arch, stage in _all_stages(results):
        pair = (f"gradcam@{stage} align", f"gradcam@{stage}")
        rows.append(
            [arch, str(stage), *(signed(results.change(arch, "maps", *pair, name)) for name in SPACE_TIME)]
        )
    return [
        words.ALIGNMENT,
        table(["", "stage", *SPACE_TIME], rows),
    ]


def pooling(results: Results) -> list[str]:
    names = (*SPACE_TIME, "flicker")
    rows = [
        [arch, str(stage), *(signed(results.per_clip(arch, stage, name)) for name in names)]
        for arch, stage in _all_stages(results)
    ]
    return [
        words.POOLING,
        table(["", "stage", *names], rows),
    ]


def _all_stages(results: Results) -> list[tuple[str, int]]:
    return [(arch, stage) for arch in ARCHS for stage in range(1, 1 + len(results.grids[arch]))]


def trust(results: Results) -> list[str]:
    still = (LAST, "layercam@4", "random map", "truth")
    return [
        words.FLICKER,
        table(
            ["", *still],
            [[arch, *(plain(results.mean(arch, "maps", arm, "flicker")) for arm in still)] for arch in ARCHS],
        ),
        words.FAITHFUL.format(steps=results.settings.steps),
        *(_faithful(results, what) for what in ("cells", "frames")),
        words.MADE_RANDOM,
        *(_made_random(results, arch) for arch in ARCHS),
    ]


def _faithful(results: Results, what: str) -> str:
    names, rows = [f"{name}, {what}" for name in ("insertion", "deletion", DIFFERENCE)], []
    for arch in ARCHS:
        for arm in ("gradcam", *KNOW_NOTHING):
            found = results.change(arch, "faithful", "gradcam", arm, names[-1])
            cells = [plain(results.mean(arch, "faithful", arm, name)) for name in names]
            rows.append([arch, arm, *cells, "" if arm == "gradcam" else signed(found)])
    return table(["", "", *names, "Grad-CAM's gain"], rows)


def _made_random(results: Results, arch: str) -> str:
    rows = []
    for arm in sorted(results.networks[arch]["made random"], key=KNOW_NOTHING.__contains__):
        label = f"({arm})" if arm in KNOW_NOTHING else arm
        rows.append(
            [label, *(plain(results.mean(arch, "made random", arm, name)) for name in ("Spearman", "SSIM"))]
        )
    return table([arch, "Spearman", "SSIM"], rows)
