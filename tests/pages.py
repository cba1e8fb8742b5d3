"""The code of documentation pages: `python tests/pages.py PAGE` runs a page's Python in an empty folder.

Fenced `python` blocks run in order in one namespace; what a page prepares unseen stands in comments that
begin `<!-- setup`. Code of libraries that the tests do not have stands in `py` blocks, which nobody runs. Of
`sh` blocks, lines that begin with `chronocam` are taken: all are parsed, and those of bundled networks run.
"""

import os
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

OPENINGS = {"```python": ("python", "```"), "```sh": ("sh", "```"), "<!-- setup": ("python", "-->")}


@dataclass(frozen=True)
class Block:
    """A block of a page: `python` or `sh`, its text, and the line of the page that it begins after."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if line.strip() in OPENINGS:
            kind, closing = OPENINGS[line.strip()]
            body: list[str] = []
            for _, inner in lines:
                if inner.strip() == closing:
                    break
                body.append(inner)
            else:
                raise AssertionError(f"{page.name}:{number}: the block has no end")
            yield Block(kind, textwrap.dedent("\n".join(body)), number)


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each `chronocam` line of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["chronocam"]:
            yield words[1:]


def parse(arguments: list[str]) -> None:
    """Parse a command line as click does; raises a UsageError for what does not exist, runs nothing."""
    from chronocam.cli import main

    command: click.Command = main
    context, rest = click.Context(main), arguments
    while isinstance(command, click.Group) and not rest[0].startswith("-"):
        name, found, rest = command.resolve_command(context, rest)
        assert name is not None
        assert found is not None
        command, context = found, click.Context(found, context, name)
    command.make_context(command.name, list(rest), parent=context.parent)


def runs_offline(arguments: list[str]) -> bool:
    """Say whether a command line is of a bundled network, or of a record or module that the page has made."""
    return any(
        a.startswith("chronocam:")
        or (a.endswith("model.json") and Path(a).exists())
        or (a.startswith("python:") and Path(f"{a.split(':')[1]}.py").exists())
        for a in arguments
    )


def run(arguments: list[str]) -> None:
    """Run a command line, but open no browser; raises AssertionError with what it printed where it fails."""
    from click.testing import CliRunner

    from chronocam.cli import main

    result = CliRunner().invoke(main, [one for one in arguments if one != "--open"])
    if result.exit_code:
        raise AssertionError(f"chronocam {shlex.join(arguments)}: {result.output}") from result.exception


def run_page(page: Path) -> None:
    """Run a page in an empty folder: its Python, and the command lines that need no network.

    Setups find the page's blocks in `BLOCKS`, so that what is to be put into a file can be.
    """
    names: dict[str, object] = {"__name__": "__main__", "BLOCKS": list(blocks(page))}
    waiting, home = dict(SETUPS.get(page.name, {})), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks(page):
                for key in [key for key in waiting if key in block.text]:
                    exec(compile(textwrap.dedent(waiting.pop(key)), f"setup of {page.name}", "exec"), names)
                _run_block(block, page, names)
        finally:
            os.chdir(home)
    if waiting:
        raise AssertionError(f"{page.name} no longer holds {', '.join(map(repr, waiting))}: see SETUPS")


def _run_block(block: Block, page: Path, names: dict[str, object]) -> None:
    for long, short in SHORTER.items():
        block = replace(block, text=block.text.replace(long, short))
    if block.kind == "python":
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        return
    for arguments in commands(block):
        if runs_offline(arguments):
            run(arguments)


# The README and a tutorial show files, weights and trained networks that a test does not have. Before the
# first block that holds a key, what stands beside it runs.

README = {
    'cc.models.load("chronocam:efficientnet-lite0")': """
        import shutil
        from chronocam.lab.packages import packaged_file

        shutil.copy(packaged_file("scikit-image", "coffee.png"), "photo.jpg")
    """,
    'labels=["cat", "dog"]': """
        import numpy as np, torch, torchvision

        model = torchvision.models.resnet18(weights=None, num_classes=2).eval()
        images = torch.rand(2, 3, 64, 64)
        rng = np.random.default_rng(0)
    """,
    'cc.models.load("torchvision:resnet50")': """
        bundled = cc.models.load
        model = torchvision.models.resnet18(weights=None).eval()
        model.labels = ["tabby", "tiger cat", *(f"class {i}" for i in range(2, 1000))]
        preprocess = cc.media.Preprocess((64, 64), None, (0.5,) * 3, (0.5,) * 3)
        cc.models.load = lambda spec: cc.models.Loaded(model, preprocess, tuple(model.labels), spec)
        cc.media.write_image("photo.jpg", rng.integers(0, 256, (80, 80, 3), dtype=np.uint8))
        data_loader = [images, images]
        cc.media.write_clip("clip.mp4", rng.integers(0, 256, (16, 120, 160, 3), dtype=np.uint8), 8.0)
    """,
    "cc.sequence.LRP(net)": """
        net = cnn = cc.models.CNNLSTM("resnet18", hidden=8, classes=3, per_step=True).eval()
        frames = torch.rand(1, 4, 3, 64, 64)
        features = net.features(frames).detach()
    """,
    "cc.targets.NegativeLoss": """
        cc.models.load = bundled
        net = torchvision.models.resnet18(weights=None, num_classes=1).eval()
        y = torch.zeros(2, 1)
        cc.data.drives.export("kitti", 1, frames=16)
        for made in ("sequences/00", "poses/00.txt"):
            shutil.move(f"kitti/{made}", f"kitti/{made.replace('00', '09')}")
    """,
    "keras.applications.ResNet50V2()": """
        import keras

        small = keras.Sequential([
            keras.Input((64, 64, 3)),
            keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="conv4_block6_out"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1000),
        ])
        keras.applications.ResNet50V2 = lambda: small
        cc.models.load = lambda spec: None
        images = np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32)
    """,
    "--model chronocam:gestures-steps": """
        cc.models.load = bundled
        cc.media.write_clip("drive.mp4", cc.data.drives.drive(0, frames=3, size=(480, 640)).pixels, 8.0)
    """,
}
OWN_VIDEO = {
    "--model python:my_nets:net3d": """
        from pathlib import Path
        import numpy as np

        Path("my_nets.py").write_text(BLOCKS[0].text)
        frames = np.random.default_rng(0).integers(0, 256, (16, 96, 128, 3), dtype=np.uint8)
        cc.media.write_clip("clip.mp4", frames, 8.0)
    """,
}
TUTORIAL = {
    'cc.models.load("pets-net/model.json")': """
        from chronocam.cli import main

        options = "--model squeezenet1_0 --size 64 --epochs 1 --images 16 --held-out 8 --threads 2"
        words = "train images --data pets --out pets-net " + options
        main(words.split(), standalone_mode=False)
    """,
}
TUTORIAL_KERAS = {
    'cc.models.load("pets-keras/model.json")': """
        from chronocam.cli import main

        options = "--model keras:VGG16 --size 32 --epochs 1 --images 8 --held-out 4"
        words = "train images --data pets --out pets-keras " + options
        main(words.split(), standalone_mode=False)
    """,
}
SETUPS = {
    "README.md": README,
    "howto-own-video.md": OWN_VIDEO,
    "howto-tutorial.md": TUTORIAL,
    "howto-tutorial-keras.md": TUTORIAL_KERAS,
}
SHORTER = {
    "steps=64": "steps=2",
    "--steps 64": "--steps 2",
}  # of an ascent, whose pictures nobody looks at here

if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve())
