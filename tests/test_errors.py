"""Messages are one line of bounded length that changes nothing on a terminal, whatever names are in them."""

import pickle

import numpy as np
import pytest

from chronocam import errors

NAMES = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "two\nlines\r\x85\u2028": r"two\nlines\r\x85\u2028",
    "half \udcff of a pair": r"half \udcff of a pair",
    "gpj.\u202egnp": r"gpj.\u202egnp",
    "\u2066isolated\u2069": r"\u2066isolated\u2069",
    "nul\0": r"nul\x00",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=map(ascii, NAMES))
@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__ if name[0].isupper()])
def test_names_in_messages_are_written_out(kind, name, shown):
    assert str(kind(f"no layer `{name}`")) == f"no layer `{shown}`"


@pytest.mark.parametrize("name", ["Katze 猫 🐈", "𝛼 → ∂S/∂x", "a\u3000b\u00a0c", "C:\\new"])
def test_letters_of_all_languages_stay_as_they_are(name):
    assert errors.printable(name) == name


@pytest.mark.parametrize("letter", ["x", "\n", "\U000e0001"])
def test_a_long_message_keeps_both_ends(letter):
    message = str(errors.TargetError(f"no label `{letter * 100_000}`; did you mean `cat`?"))
    assert 900 < len(message) <= 1000
    assert message.startswith("no label `")
    assert message.endswith("`; did you mean `cat`?")
    assert message.isprintable()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 2.0, "2", None, True, float("nan"), np.array([1, 2])])
def test_options_that_are_no_whole_numbers_are_named(wrong):
    with pytest.raises(errors.InputError, match=r"steps is .*; expected at least one"):
        errors.check_whole("steps", wrong, "at least one")
    errors.check_whole("steps", np.int64(1), "at least one")


@pytest.mark.parametrize("wrong", [0, -0.5, 1.5, "0.5", None, True, float("nan"), 1j, 10**400])
def test_options_that_are_no_shares_are_named(wrong):
    with pytest.raises(errors.InputError, match=r"share is .*; expected a share"):
        errors.check_real("share", wrong, "a share", errors.POSITIVE, 1)
    for right in (1, 0.5, np.float32(0.5)):
        errors.check_real("share", right, "a share", errors.POSITIVE, 1)


def test_an_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(errors.MediaError("a\x1bb")))
    assert (type(error), str(error)) == (errors.MediaError, r"a\x1bb")


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("block_16", "`block_16_add` or `block_16_expand` or `block_6_add`"),
        ("BLOCK_6_ad", "`block_6_add` or `block_16_add` or `block_16_expand`"),
        ("blo", ""),
    ],
)
def test_what_goes_on_after_a_name_comes_before_what_is_like_it(value: str, meant: str) -> None:
    known = ["block_6_add", "block_16_expand", "block_16_add", "conv"]
    assert errors.suggest(value, known) == (f"; did you mean {meant}?" if meant else "")


def test_of_many_names_the_first_are_named() -> None:
    assert errors.few(["a", "b", "c"]) == "a, b, c"
    assert errors.few(["a", "b", "c", "d"]) == "a, b, c, …"
    assert errors.few(["a", "b", "c"], 2) == "a, b, …"
