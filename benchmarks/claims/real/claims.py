"""What is claimed of maps of published networks, by section of the page."""

from __future__ import annotations

from benchmarks.claims.page import Claim, Page

LIES = {
    "above": "yes for {cells}",
    "below": "on the other wave for {cells}",
    "undecided": "not clear for {cells}",
}


def _moves(network: str, sign: str, says: dict[str, str]) -> Claim:
    return Claim(
        f"Is the output {'lower' if sign == 'positive' else 'higher'} without the most {sign} cells?",
        network,
        says,
        columns=(f"most {sign} − random places",),
        signed=True,
    )


FALLS = {
    "below": "yes for {cells}",
    "above": "it is higher for {cells}",
    "undecided": "not clear for {cells}",
}
RISES = {"above": "yes for {cells}", "below": "it is lower for {cells}", "undecided": "not clear for {cells}"}

PAGE = Page("claims-real", "real", {
    "ecg": [
        Claim("Without the QRS complex", "ecg: fall of the probability", "{values}", rows=("QRS",),
              name="{column}"),
        Claim("Without the P wave", "ecg: fall of the probability", "{values}", rows=("P",), name="{column}"),
        *(
            Claim(f"{label}: on the {wave}?", "ecg: share on the known wave", LIES, columns=(label,),
                  level=0.5)
            for label, wave in (("N", "QRS"), ("V", "QRS"), ("F", "QRS"), ("Q", "QRS"), ("S", "P wave"))
        ),
    ],
    "steering": [_moves("steering", "positive", FALLS), _moves("steering", "negative", RISES)],
    "age": [_moves("age", "positive", FALLS), _moves("age", "negative", RISES)],
})  # fmt: skip
