"""Help texts and lists: examples that exist come first, they are short, and they cost next to nothing."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from pages import parse

import chronocam as cc
from chronocam.cli import main
from chronocam.cli._commands import Command, Commands


def commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            assert child is not None
            yield from commands(click.Context(child, context, name))


ALL = [
    pytest.param(one.command_path.split()[1:], one.command, id=one.command_path)
    for one in commands(click.Context(main, info_name="chronocam"))
]


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("path", "command"), ALL)
def test_help_is_short_and_begins_with_examples(path: list[str], command: Command | Commands) -> None:
    text = shown(*path, "--help").splitlines()
    assert len(text) <= 70
    assert text[2] == "Examples:"
    assert text[3 : 3 + len(command.examples)] == [f"  {line}" for line in command.examples]


@pytest.mark.parametrize("path", [[], ["train"]], ids=" ".join)
def test_a_group_alone_shows_its_help(path: list[str]) -> None:
    done = CliRunner().invoke(main, path)
    assert done.exit_code == 2
    assert done.stderr == shown(*path, "--help")


@pytest.mark.parametrize(("path", "command"), ALL)
def test_examples_can_be_typed(path: list[str], command: Command | Commands) -> None:
    assert command.examples
    for line in command.examples:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "chronocam"
        if arguments[:1] != ["COMMAND"]:
            parse(arguments)


@pytest.mark.parametrize(("path", "command"), ALL)
def test_no_option_stands_twice(path: list[str], command: click.Command) -> None:
    names = [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
    assert len(names) == len(set(names))


def test_the_long_help_shows_every_option_and_leaves_the_short_one_as_it_was() -> None:
    short = shown("explain", "--help")
    long = shown("explain", "--help-all")
    for rare in ("--align", "--epsilon", "--intrinsics", "depth@x0,y0,x1,y1"):
        assert rare in long
        assert rare not in short
    assert shown("explain", "--help") == short


def test_the_list_of_commands_cuts_no_word() -> None:
    assert "..." not in shown("--help").split("Commands:")[1]


@pytest.mark.parametrize("path", [[], ["explain"], ["layers"], ["demo"]], ids=" ".join)
def test_help_takes_a_quarter_of_a_second_at_most(path: list[str]) -> None:
    code = f"""
import atexit, sys, time
wanted = {{"chronocam.methods", "matplotlib", "PIL", "rich", "scipy"}}
atexit.register(lambda: print(time.process_time(), *wanted & {{*sys.modules}}, file=sys.stderr))
from chronocam.cli import main
main({[*path, "--help"]!r}, prog_name="chronocam")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *heavy = done.stderr.split()
    assert float(seconds) < 0.25  # of the processor
    assert not heavy


def test_methods_are_listed_with_their_formula() -> None:
    rows = json.loads(shown("methods", "--json"))
    assert {row["name"] for row in rows} == {*cc.methods.METHODS, *cc.sequence.METHODS}
    (row,) = (line for line in shown("methods").splitlines() if line.split()[:1] == ["gradcam"])
    assert "M = ReLU(Σ_k w_k A_k)" in row


def test_a_method_that_does_not_exist_is_wrong_usage_with_the_nearest() -> None:
    done = CliRunner().invoke(main, ["explain", "a.jpg", "--model", "x", "--method", "gradcan"])
    assert done.exit_code == 2
    assert "no method `gradcan`; did you mean `gradcam`" in done.stderr
    assert "`chronocam methods` lists them" in done.stderr


def test_models_are_listed_by_source_and_by_a_part_of_their_spec() -> None:
    assert "  chronocam:gestures-lstm\n" in shown("models")
    forms = {row["form"] for row in json.loads(shown("models", "--json"))}
    assert {"torchvision:NAME", "keras:NAME", "python:package.module:factory"} <= forms
    assert shown("models", "tures-LSTM").split() == ["chronocam:gestures-lstm"]


def test_completion_knows_methods_and_bundled_networks() -> None:
    def completed(incomplete: str, *before: str) -> str:
        words = ["chronocam", "explain", "a.jpg", *before, incomplete]
        environment = {
            "_CHRONOCAM_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        return CliRunner().invoke(main, [], env=environment, prog_name="chronocam").stdout

    assert completed("layer", "--method") == "plain,layercam\n"
    assert completed("chronocam:dig", "--model") == "plain,chronocam:digits\nplain,chronocam:digits-vit\n"


def test_a_command_that_does_not_exist_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(main, ["explian", "a.jpg"])
    assert done.exit_code == 2
    assert done.stderr.rstrip().endswith("No such command 'explian'; did you mean `explain`?")


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("resnet50", "torchvision:resnet50"),
        ("torchvison:resnet50", "torchvision:resnet50"),
        ("efficientnet-lite0", "chronocam:efficientnet-lite0"),
        ("gesture-3d", "chronocam:gestures-3d"),
    ],
)
def test_a_spec_without_its_source_or_slightly_wrong_is_answered_with_the_nearest(
    spec: str, meant: str
) -> None:
    done = CliRunner().invoke(main, ["layers", spec])
    assert done.exit_code == 1
    assert f"unknown model spec `{spec}`; did you mean `{meant}`? Expected one of: " in done.stderr


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chronocam.runs.lists.source_rows", interrupted)
    done = CliRunner().invoke(main, ["models"])
    assert (done.exit_code, done.stderr) == (130, "chronocam: interrupted\n")


def test_what_is_no_name_of_a_network_is_answered_with_all_forms() -> None:
    done = CliRunner().invoke(main, ["layers", "weights.jpg"])
    assert "unknown model spec `weights.jpg`; expected one of: " in done.stderr
