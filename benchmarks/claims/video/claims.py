"""What is claimed of maps of video networks, by section of the page."""

from __future__ import annotations

from benchmarks.claims.page import DIFFER, Claim, Page
from benchmarks.claims.video.results import LAST
from benchmarks.claims.video.tables import CLASSES, SPACE_TIME, WITHOUT_NETWORK
from benchmarks.claims.video.world import ARCHS

EACH = "{values}"
ALL_THREE = [
    f"{measure}: map − {arm}" for measure in ("energy", "pointing", "time AUC") for arm in WITHOUT_NETWORK
]


def _last_stage(table: str, title: str, measures: tuple[str, ...]) -> list[Claim]:
    return [
        Claim(f"{title}, {arch}", table, DIFFER, rows=(f"{arch}, stage 4",), columns=measures,
              name="{column}", signed=True)
        for arch in ARCHS
    ]  # fmt: skip


PAGE = Page("claims", "video", {
    "accuracy": [
        Claim("Accuracy on clips of one actor", "accuracy", EACH, columns=("all",)),
        Claim("One design minus another", "accuracy, one design − another", DIFFER, signed=True),
        Claim("Accuracy on `raise` and `lower` as filmed minus with the frames shuffled", "contrasts",
              {"above": "the order matters to {cells}", "below": "the wrong order is better for {cells}",
               "undecided": "no clear difference for {cells}"},
              rows=("accuracy on raise and lower: as filmed − shuffled",), name="{column}", signed=True),
        Claim("Reversed, these clips are named as each other", "order of frames", EACH,
              columns=("reversed, named as its mirror",)),
    ],
    "attention": [
        Claim("Attention minus the LSTM's last state", "attention over the frames", DIFFER,
              rows=("accuracy", "energy", "pointing", "energy on clips named right",
                    "pointing on clips named right"),
              columns=("difference",), signed=True),
    ],
    "weights": [
        Claim("Are they higher on the active frames? The AUC on clips of one actor", "active frames",
              {"above": "yes for {cells}", "below": "lower there for {cells}",
               "undecided": "not shown for {cells}"},
              rows=("weights", "contributions"), columns=("one actor",), level=0.5),
        Claim("Do contributions find them better than weights?", "active frames",
              {"above": "yes {cells}", "below": "worse {cells}", "undecided": "no clear {cells}"},
              rows=("contributions − weights",), columns=("one actor",), name="difference", signed=True),
        Claim("Rank correlation of contributions with weights", "active frames", EACH,
              rows=("contributions",), columns=("rank correlation with weights",), name="over the frames"),
        Claim("Frame importance of the same networks' maps", "active frames", EACH,
              rows=(f"frame importance, {LAST}",), columns=("one actor",), name="AUC of Grad-CAM"),
        Claim("The weights' share of the frames, minus that of an even curve",
              "phases, weights − share of the frames",
              {"above": "more {cells}", "below": "less {cells}", "undecided": "no clear difference {cells}"},
              name="{column}", signed=True),
        Claim("Do contributions tell apart two actors? The AUC on frames on which one of them acts alone",
              "active frames", {"above": "yes, {cells}", "below": "the wrong way round, {cells}",
                                "undecided": "no, {cells}"},
              rows=("contributions",), columns=("own against other's",), level=0.5),
        Claim("Weights held constant, minus gradients through the weights", "weights detached", DIFFER,
              rows=("energy", "pointing", "time AUC"), columns=("difference",), signed=True),
    ],
    "actors": [
        *(
            Claim(f"More on its own actor than on the wrong one, {label}", "contrasts",
                  {"above": "yes for {cells}", "below": "the wrong actor has more for {cells}",
                   "undecided": "no clear difference for {cells}"},
                  rows=(f"two actors, {which} class: own − wrong actor",), name="{column}", signed=True)
            for which, label in zip(CLASSES, ("the likelier class", "the less likely class"), strict=True)
        ),
        Claim("Share of the map on its own actor", "two actors", EACH, columns=("own actor",)),
        Claim("Share on the wrong actor", "two actors", EACH, columns=("wrong actor",)),
        Claim("The classes of both have the two highest scores in this share of the clips", "accuracy", EACH,
              columns=("classes of two actors on top",)),
    ],
    "designs": [
        Claim("Share of the map inside the action's mask", "where Grad-CAM lies", EACH, columns=("energy",)),
        Claim("Share of the map on the whole actor", "where Grad-CAM lies", EACH, columns=("figure",)),
        *(
            Claim(label[0].upper() + label[1:], "contrasts", DIFFER, rows=(label,), name="{column}",
                  signed=True)
            for label in ALL_THREE
        ),
        Claim("Energy of r3d minus that of another design", "r3d − other designs", DIFFER, rows=("energy",),
              name="{column}", signed=True),
    ],
    "depth": [
        Claim("Energy of the first stage minus that of the last", "first stage − last stage", DIFFER,
              columns=("energy",), signed=True),
        Claim("Time AUC of the first stage minus that of the last", "first stage − last stage", DIFFER,
              columns=("time AUC",), signed=True),
        *(
            Claim(f"{measure[0].upper()}{measure[1:]} of the first stage beside the {other}",
                  "first stage − maps without a network",
                  {"above": "above it for {names}", "not above": "not above it for {count} of {total} maps"},
                  columns=(f"{measure} − {other}",))
            for measure in ("energy", "time AUC")
            for other in WITHOUT_NETWORK
        ),
    ],
    "alignment": _last_stage("receptive-field − half-pixel alignment", "Last stage",
                             tuple(name for name in SPACE_TIME if name not in ("pointing", "time IoU"))),
    "pooling": _last_stage("weights per clip − per frame", "Last stage",
                           ("energy", "pointing", "time AUC", "flicker")),
    "trust": [
        Claim("Flicker minus that of a random map on the same grid", "flicker, map − random map", DIFFER,
              signed=True),
        *(
            Claim(f"Insertion − deletion of {what}, Grad-CAM minus the {other}", "contrasts", DIFFER,
                  rows=(f"insertion − deletion, {what}: map − {other}",), name="{column}", signed=True)
            for what in ("cells", "frames")
            for other in WITHOUT_NETWORK[:2]
        ),
        Claim("Rank correlation of a map with itself after the change", "randomised networks", EACH),
    ],
})  # fmt: skip
