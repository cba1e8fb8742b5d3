"""Arrays from files: what numpy.save wrote, and tables with commas."""

from pathlib import Path

import numpy as np
import pytest
from helpers import one_line

from chronocam.errors import ChronocamError
from chronocam.runs.arrays import read_array, read_features
from chronocam.runs.inputs import find_arrays, holds_arrays

ROWS = np.array([[0.5, 1.0, -2.0], [3.0, 4.25, 5.0]])


@pytest.mark.parametrize(
    "text",
    [
        "0.5,1,-2\n3,4.25,5\n",
        "a,b,c\n0.5,1,-2\n3,4.25,5\n",
        "0,1,2\n0.5,1,-2\n3,4.25,5\n",  # columns without names, as pandas writes them
        ",a,b,c\n0,0.5,1,-2\n1,3,4.25,5\n",  # and with the numbers of rows
        "\ufeffa;b;c\r\n0.5;1;-2\r\n\r\n3;4.25;5\r\n",
        "0.5\t1\t-2\n3\t4.25\t5",
    ],
)
def test_a_table_has_a_row_for_every_step(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_features(tmp_path / "a.csv"), ROWS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no rows"]),
        ("a,b\n", ["no rows"]),
        ("a,b\n1,2\n3,x\n", ["row 3", "`x`, no number"]),
        ("1,2\n3\n", ["row 2", "1 values, the first 2"]),
        ("1,nan\n3,4\n", ["1 NaN"]),
    ],
)
def test_what_is_no_table_of_numbers_is_told_in_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ChronocamError) as error:
        read_array(tmp_path / "a.csv", "(time, feature)")
    one_line(error, "a.csv", *words)


def test_a_table_beside_pictures_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n")
    assert holds_arrays([str(tmp_path), str(tmp_path / "a.csv")])
    assert find_arrays(tmp_path) == [tmp_path / "a.csv"]
    (tmp_path / "a.png").write_bytes(b"")
    assert not holds_arrays([str(tmp_path)])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 2), np.int64), ["int64", "expected floating-point numbers, such as float32"]),
        (np.zeros((0, 2)), ["shape (0, 2)", "one sequence per file"]),
        (np.float64(1), ["shape ()", "expected (time, feature)"]),
        (np.zeros((2, 2, 2)), ["shape (2, 2, 2)", "explain volumes and arrays of clips in Python"]),
    ],
)
def test_arrays_that_are_no_sequence_are_told_in_one_line(
    values: np.ndarray, words: list[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ChronocamError) as error:
        read_features(tmp_path / "a.npy")
    one_line(error, "a.npy", *words)


def test_an_archive_of_arrays_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=ROWS)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(ChronocamError, match="is an archive of arrays; give each as"):
        read_features(tmp_path / "a.npy")
