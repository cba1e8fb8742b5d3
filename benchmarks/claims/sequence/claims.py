"""What is claimed of relevance over the steps of a sequence, by section of the page."""

from __future__ import annotations

from benchmarks.claims.page import Claim, Page

HIGHER = {
    "above": "yes for {names}",
    "below": "the other way round for {names}",
    "undecided": "the intervals overlap for {names}",
}
MAPS = ("LRP, then Grad-CAM", "LRP, then guided backpropagation", "VisualBackProp (no class)")

PAGE = Page("sequence", "sequence", {
    "settling": [
        Claim("Is the similarity to the class's other clips higher in the last quarter than in the first?",
              "settling", HIGHER, columns=("last quarter",), than="first quarter"),
        Claim("In the last quarter, is it higher than the similarity to other classes?", "settling", HIGHER,
              columns=("last quarter",), than="last quarter, other classes"),
        Claim("First quarter", "settling", "{values}", columns=("first quarter",)),
        Claim("Last quarter", "settling", "{values}", columns=("last quarter",)),
        Claim("Last quarter, other classes", "settling", "{values}",
              columns=("last quarter, other classes",)),
        Claim("Share of clips whose own steady state is most like that of their class", "settling",
              "{values}", columns=("class of the nearest",)),
    ],
    "change": [
        Claim("Does relevance change with the class?", "change",
              {"above": "yes, {cells}", "below": "the wrong way, {cells}", "undecided": "not clear, {cells}"},
              rows=("relevance for the first class: before − at the end",
                    "relevance for the second class: at the end − before")),
        Claim("Steps named right", "change", "{values}",
              rows=("steps before the change named right", "steps at the end named right")),
        Claim("How soon", "change", "{values}",
              rows=("frames after the change until the second class leads",)),
    ],
    "pixels": [
        *(
            Claim(f"More {column} than the {other}?", "pixels", HIGHER, rows=MAPS, columns=(column,),
                  than=other)
            for other in ("share of the area", "centre prior")
            for column in ("on the person", "on the action")
        ),
        Claim("Share on the person", "pixels", "{values}", columns=("on the person",)),
        Claim("Share on the action", "pixels", "{values}", columns=("on the action",)),
    ],
})  # fmt: skip
