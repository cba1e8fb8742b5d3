"""What comes in the place of what is hidden: a name or an array of finite numbers."""

import pytest

from chronocam.errors import InputError
from chronocam.masks.replacements import check


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("blurr", "no baseline `blurr`; did you mean `blur`"),
        ("?", "no baseline `.`; choose one of "),
        (object(), "baseline= is of type object, which is not an array; choose one of "),
        (
            [0.0, float("nan")],
            "baseline= is not finite; .* give an array of finite numbers",
        ),
        (None, "baseline= is None; choose one of "),
    ],
)
def test_what_is_no_baseline_is_refused(baseline: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(baseline)
