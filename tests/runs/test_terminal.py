"""What a command says is lines of plain letters; results that cannot be written are one line."""

import os
import subprocess
import sys

import pytest

from chronocam.runs import terminal

PRINTS = (
    "from chronocam.cli import main; main(['layers', 'chronocam:digits', '--json'], prog_name='chronocam')"
)


def test_names_in_lines_are_written_out_and_nothing_is_taken_for_markup(capsys):
    terminal.say("a\x1b[31m\nb :fire: [red]c[/red]", "  second")
    terminal.put("1\u202e2", "3")
    said = capsys.readouterr()
    assert said.err == "a\\x1b[31m\\nb :fire: [red]c[/red]\n  second\n"
    assert said.out == "1\\u202e2\n3\n"


def test_a_label_cannot_break_out_of_json(capsys):
    terminal.put_json({"label": "\x1b[31m\u202e\udcff"})
    assert capsys.readouterr().out == '{\n  "label": "\\u001b[31m\\u202e\\udcff"\n}\n'


def _closed() -> None:
    os.close(1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full")
@pytest.mark.parametrize(
    ("out", "words"), [("/dev/full", "No space left"), (None, "stdout, which is closed")]
)
def test_results_that_cannot_be_written_are_one_line(out, words):
    close = {"preexec_fn": _closed} if out is None else {"stdout": open(out, "w")}  # noqa: SIM115, PTH123
    done = subprocess.run([sys.executable, "-c", PRINTS], stderr=subprocess.PIPE, text=True, **close)
    assert done.returncode == 1
    assert done.stderr.startswith("chronocam: cannot write to stdout")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way")
def test_a_reader_that_has_gone_ends_the_command_in_silence():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", PRINTS], stderr=subprocess.PIPE, stdout=writer, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("7 × 7 cells; conv_layer= names another", "7 × 7 cells; --layer names another"),
        (
            'border to border; use align="half_pixel", or more',
            "border to border; use --align half_pixel, or more",
        ),
        ("name conv_layer= and layout=", "name --layer and layout="),  # no option stands for a layout
        ('give adapter=, boxes="xyxy" or min_score=', "give --adapter, --boxes xyxy or --min-score"),
        ("per_frames=3 and realign=", "per_frames=3 and realign="),
    ],
)
def test_arguments_of_python_are_said_as_options(text: str, spoken: str) -> None:
    assert terminal.with_flags(text) == spoken
