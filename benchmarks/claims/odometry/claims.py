"""What is claimed of maps of odometry, by section of the page."""

from __future__ import annotations

from benchmarks.claims.page import DIFFER, Claim, Page

EXACT = 1e-6
LOW = 0.2  # a rank correlation that little is left of

COUNTED = {
    "above": "more for {count} of {total} maps",
    "below": "less for {count} of {total} maps",
    "undecided": "no clear difference for {count}",
}
FASTER = {
    "above": "yes for {count} of {total} maps",
    "below": "slower for {count} of {total} maps",
    "undecided": "no clear difference for {count}",
}
SHARE = {
    "above": "more than the share of the area for {cells}",
    "below": "less than the share of the area for {cells}",
    "undecided": "about the share of the area for {cells}",
}
POSITIVE = {
    "above": "above 0 for {count} of {total} maps",
    "below": "below 0 for {count} of {total} maps",
    "undecided": "no clear side for {count}",
}
CELL = "{row}, {column}"


def _wall(part: str) -> list[Claim]:
    title = f"{part[0].upper()}{part[1:]} of maps for motion"
    others = ("random map", "centre prior", "the wall with its texture")
    return [
        Claim(f"{title}, beside the wall's share of the area", f"wall: {part}", COUNTED, level=1, name=CELL),
        *(Claim(f"{title} − {other}", f"wall: {part} − {other}", COUNTED, name=CELL) for other in others),
    ]


def _curves(kind: str, title: str) -> list[Claim]:
    baselines, others = ("blur", "mean"), {"random": "random cells", "centre prior": "those in the middle"}
    gains = [
        Claim(
            f"{title} than with {label} ({baseline})?",
            f"{baseline}, {kind}: gain over {other}",
            FASTER,
            name=CELL,
        )
        for baseline in baselines
        for other, label in others.items()
    ]
    words = {
        "above": "better for {names}",
        "below": "worse for {names}",
        "undecided": "no clear side for {names}",
    }
    pieces = [
        Claim(f"A bump in one piece − scattered cells ({kind}, {baseline})",
              f"{baseline}, {kind}: one piece − scattered cells", words, name="{row}: {column}")
        for baseline in baselines
    ]  # fmt: skip
    return gains + pieces


def _object(part: str) -> list[Claim]:
    title = f"{part[0].upper()}{part[1:]} of maps of the loss"
    table, others = "object: maps of the loss", ("the same place without it", "random map", "centre prior")
    return [
        Claim(f"{title}, beside the object's share of the area", table, COUNTED, columns=(part,), level=1),
        *(Claim(f"{title} − {other}", f"{table} − {other}", COUNTED, columns=(part,)) for other in others),
    ]


PAGE = Page("odometry", "odometry", {
    "walls_magnitude": _wall("magnitude"),
    "walls_positive": _wall("positive part"),
    "walls_causes": [
        Claim("Where walls are", "wall: maps without a network", SHARE, rows=("centre prior",), level=1),
        Claim("What is possible on the layer's grid, whose cells reach over the outline",
              "wall: a faultless map on the layer's grid", SHARE, level=1),
        Claim("How active the layer is on the wall", "wall: activity of the layer", SHARE, level=1),
        Claim("Edges: the magnitude in the wall's interior − on the whole wall",
              "wall: interior − the whole wall", COUNTED, name=CELL),
        Claim("The magnitude in the interior, beside the interior's share of the area", "wall: interior",
              COUNTED, level=1, name=CELL),
    ],
    "deletion": _curves("deletion", "Do outputs change faster as the marked cells are removed"),
    "insertion": _curves("insertion", "Do outputs return faster as the marked cells are put back"),
    "objects": [
        *_object("negative part"),
        *_object("positive part"),
        *_object("magnitude"),
        Claim("More of the negative part on the object than at the same place without it",
              "object: maps of the loss − the same place without it",
              {"above": "yes for {names}", "below": "less for {names}", "undecided": "not clear for {count}"},
              columns=("negative part",)),
    ],
    "object_causes": [
        Claim("What is possible: the photometric error itself", "object: maps without a network", SHARE,
              rows=("error with the true depth and motion", "error with the networks' depth and motion"),
              level=1),
        Claim("PoseNet: is the HiResCAM map of its loss more than a mixture of the maps of its six outputs?",
              "object: PoseNet's map − a mixture of those of its outputs",
              {"above": "yes, the largest difference is {values} of the largest value",
               "undecided": "no, to rounding: they differ by {values} of the largest value. Such a map says "
                            "where motion is read from, not where the error is"}, name=""),
        Claim("DepthNet: does a gradient that grows with the error find the object? Squared − absolute error",
              "object: DepthNet's maps by error", DIFFER, columns=("squared − absolute",), signed=True),
        Claim("Magnitude of DepthNet's maps of the squared error", "object: DepthNet's maps by error", SHARE,
              columns=("squared error",), level=1),
    ],
    "signs": [
        Claim(f"Is the map of −ry minus the map of ry, to {EXACT:g} of the largest value?",
              "sign: map of −ry + map of ry",
              {"undecided": "yes for {names}",
               "above": "no for {cells}: LayerCAM keeps positive gradients only"}, level=EXACT),
        Claim("The sum of HiResCAM at the last layer plus the bias is the output",
              "sign: sum of the map + bias − output",
              {"undecided": "to {values} of it", "above": "not quite, to {values} of it"}, name=""),
        Claim("Outputs in the mirror, share of drives", "mirror: outputs", "{values}"),
        Claim("Rank correlation in the mirror of the map of ry with that of −ry, and of tz with tz",
              "mirror: map of ry and of −ry, of tz and of tz", POSITIVE, name=CELL),
        Claim("Rank correlation in the mirror of the map of ry with itself", "mirror: map of ry and of ry",
              {**POSITIVE, "above": "above 0 for {names}"}),
        Claim("Does the sum of a map of ry have the sign of ry in more than half of the drives?",
              "sign: sum of a map of ry and ry",
              {"above": "yes for {cells}", "below": "no for {cells}", "undecided": "not clear for {cells}"},
              level=0.5),
    ],
    "exposure": [
        Claim("Change of outputs, in standard deviations over drives", "exposure: change of outputs",
              "{values}"),
        Claim("Likeness of a drive's maps with and without the change − that of two drives",
              "exposure: same drive − two drives", POSITIVE, name=CELL),
        *(
            Claim(f"log2 of how much larger maps of {target} become",
                  "exposure: log2 of the size with it − without",
                  {"above": "larger for {cells}", "below": "smaller for {cells}",
                   "undecided": "not clear for {cells}"},
                  columns=(target,), signed=True)
            for target in ("ry", "tz", "loss")
        ),
    ],
    "noise": [
        Claim("Agreement of maps of noisy copies", "noise: agreement", "{values}", rows=("trained",),
              name="{column}"),
        Claim("Are maps of the loss too noisy to be read?", "noise: agreement",
              {"above": "no, {values}", "below": "yes, {values}", "undecided": "at the edge, {values}"},
              rows=("trained",), columns=("loss",), level=0.5, name="their agreement is"),
        Claim("Is it lower for the loss than for tz?", "noise: agreement, tz − loss",
              {"above": "yes, {names}", "below": "higher, {names}", "undecided": "not clear, {names}"}),
        Claim("First-order change of the loss, over the loss", "noise: first-order change", "{values}",
              columns=("loss",)),
        Claim("Length of the mean of the drives' gradients, over their mean length",
              "noise: length of the mean gradient", "{values}"),
    ],
    "weights": [
        claim
        for name in ("maps with signs", "magnitudes")
        for claim in (
            Claim(f"Rank correlation of {name} beside {LOW:g}", f"random weights: {name}",
                  {"below": "below it for {count} of {total} maps", "above": "above it for {names}",
                   "undecided": "not clear for {names}"}, level=LOW, name=CELL),
            Claim(f"Rank correlation of {name} beside 0", f"random weights: {name}", POSITIVE, name=CELL),
        )
    ],
    "held_out": [
        Claim("Depth, abs rel", "held-out drives: depth", "{values}", columns=("abs rel",)),
        Claim("Depth within a factor of 1.25", "held-out drives: depth", "{values}",
              columns=("within 1.25^1",)),
        Claim("Trajectory error over 5 frames in metres", "held-out drives: motion", "{values}",
              columns=("ate",)),
        Claim("Rotation error in degrees", "held-out drives: motion", "{values}",
              columns=("rotation error in degrees",)),
    ],
    "real": [
        Claim("Depth, abs rel, after median scaling", "real frames: errors", "{values}",
              columns=("abs rel",)),
        Claim("Rotation error in degrees", "real frames: errors", "{values}",
              columns=("rotation error in degrees",)),
        Claim("Trajectory error over 5 frames in metres, after scaling", "real frames: errors", "{values}",
              columns=("ATE in metres, 5 frames",)),
        Claim("Agreement of maps of tz under noise", "real frames: how it was done", "{values}",
              columns=("agreement of tz under noise",)),
    ],
})  # fmt: skip
