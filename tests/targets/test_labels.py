from pathlib import Path

import pytest

from chronocam.errors import InputError, TargetError
from chronocam.targets.labels import find_label, names_of
from chronocam.types.targets import label_of

LONG = [
    "tabby, tabby cat",
    "tiger cat",
    "golden retriever",
    "crane",
    "flat-coated retriever",
    "crane",
    "hot_pot",
]
SHORT = ["tabby", "tiger cat", "Persian cat", "golden retriever", "T-shirt, jersey"]


@pytest.mark.parametrize(
    ("labels", "text", "index"),
    [
        (LONG, "tabby, tabby cat", 0),
        (LONG, "Tabby", 0),
        (LONG, "tabby cat", 0),
        (LONG, "TIGER CAT ", 1),
        (LONG, "golden", 2),
        (LONG, "flat coated", 4),
        (LONG, "hot pot", 6),
        (SHORT, "tabby cat", 0),
        (SHORT, "golden retriever dog", 3),
        (SHORT, "a golden_retriever", 3),
        (SHORT, "jersey", 4),
        (SHORT, "persian", 2),
        (list("0123456789"), "7", 7),
        (["+", "-"], "-", 1),
        (["Cardigan", "cardigan"], "cardigan", 1),
    ],
)
def test_labels_are_found_by_name_or_part(labels: list[str], text: str, index: int) -> None:
    assert find_label(labels, text) == index


def test_whole_label_beats_a_part_of_others() -> None:
    assert find_label(["tiger cat", "tiger", "tiger shark"], "tiger") == 1
    assert find_label(["sea lion", "cat, lion"], "lion") == 1


def test_parts_of_words_do_not_count() -> None:
    with pytest.raises(TargetError, match="no label `tab`"):
        find_label(["tabby", "table lamp"], "tab")
    with pytest.raises(TargetError, match="no label `cattle`"):
        find_label(["cat"], "cattle")


def test_duplicates_are_listed_with_their_indices() -> None:
    with pytest.raises(TargetError, match="`crane` names 2 classes: 3 `crane`, 5 `crane`; give the index"):
        find_label(LONG, "crane")


def test_ambiguity_lists_up_to_eight() -> None:
    with pytest.raises(
        TargetError, match=r"`cat` names 10 classes: 0 `cat 0`.*7 `cat 7` and 2 more;"
    ) as caught:
        find_label([f"cat {index}" for index in range(10)], "cat")
    assert "cat 8" not in str(caught.value)


def test_words_that_hold_two_labels_are_ambiguous() -> None:
    with pytest.raises(TargetError, match="names 2 classes: 0 `tabby`, 3 `golden retriever`"):
        find_label(SHORT, "tabby golden retriever")


def test_unknown_label_suggests_the_closest() -> None:
    with pytest.raises(TargetError, match="no label `goldn retriever`; did you mean `golden retriever`"):
        find_label(SHORT, "goldn retriever")
    with pytest.raises(
        TargetError, match="no label `xyz`; expected an index below 5 or a label such as `tabby`"
    ):
        find_label(SHORT, "xyz")
    with pytest.raises(TargetError, match="did you mean `crane`\\?"):
        find_label(LONG, "crame")


@pytest.mark.parametrize("text", ["", "  ", "?"])
def test_no_words_name_nothing(text: str) -> None:
    with pytest.raises(TargetError, match="no label"):
        find_label(SHORT, text)


def test_without_labels_a_name_is_refused() -> None:
    with pytest.raises(TargetError, match="there are none"):
        find_label([], "cat")


def test_every_imagenet_label_finds_itself(data: Path) -> None:
    labels = (data / "imagenet" / "classes.txt").read_text().splitlines()
    unique = [index for index, label in enumerate(labels) if labels.count(label) == 1]
    assert len(unique) > 990
    assert all(find_label(labels, labels[index]) == index for index in unique)
    assert labels[find_label(labels, "tabby cat")] == "tabby"
    with pytest.raises(TargetError, match="Persian cat"):
        find_label(labels, "cat")


def test_names_are_taken_by_index_also_as_json_writes_them() -> None:
    assert names_of({"1": "dog", "0": "cat"}) == names_of({0: "cat", 1: "dog"}) == ("cat", "dog")
    for wrong in ({"cat": 0, "dog": 1}, {1: "dog"}, {"0": "cat", "2": "dog"}):
        with pytest.raises(InputError, match="keys are not 0, 1, 2"):
            names_of(wrong)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_class_without_a_name_is_called_by_its_number(blank: str) -> None:
    assert [label_of(["cat", blank], index) for index in range(3)] == ["cat", "class 1", "class 2"]
