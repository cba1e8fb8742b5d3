"""The house in numbers and as a drawing.

`python scripts/house.py` counts: files, lines, comments, `Any`, circles, prefixes, complexity, import time.
`python scripts/house.py --draw` writes docs/images/house.svg from the layers contract in pyproject.toml.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "chronocam"
DRAWING = ROOT / "docs" / "images" / "house.svg"

# The way of an input through the rooms, as a profiler sees `chronocam explain` enter them: room, what happens
# to a picture there, and what happens to a clip where that is something else.
WAY = [
    ("cli", "words become options", ""),
    ("runs", "inputs are found, options are checked against them", ""),
    ("models", "the spec becomes model, preprocessing and labels", ""),
    ("media", "the file is read and prepared", "frames are sampled by their times, then prepared"),
    ("_explain", "methods × layers share one pass", ""),
    ("methods", "each says what it needs recorded", ""),
    (
        "joint",
        "a Look at the batch: its grid, its axes, the default layer",
        "also its frame axis and clip options",
    ),
    ("engines", "one forward pass, one backward pass per target", "frames in chunks where they are folded"),
    ("targets", "outputs become scores", "a step, every step or the vote of all steps, too"),
    ("layouts", "what a layer returned is put on its grid", "… of time, height and width"),
    ("methods", "captures become maps", ""),
    ("maps", "weights, sums, resampling over any grid", "and which frames each time slice covers"),
    ("explanation", "maps, scores, targets and findings in one record", ""),
    ("render", "the overlay, the sheet, the page", "a strip of frames, a video"),
    ("records", "what the job writes down for reports", ""),
]


# Counting


@dataclass(frozen=True)
class Count:
    """What is counted in one file or in all of them."""

    files: int = 1
    lines: int = 0
    code: int = 0
    comments: int = 0
    anys: int = 0

    def __add__(self, other: Count) -> Count:
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Count(*(a + b for a, b in both))


def counted(path: Path) -> Count:
    """Count a file: lines of code without docstrings, lines with a comment, uses of `Any` outside imports."""
    text = path.read_text(encoding="utf-8")
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    comments: set[int] = set()
    anys = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not token.string.startswith(("# noqa", "# type:")):
                comments.add(token.start[0])
        elif token.type not in layout:
            code |= set(range(token.start[0], token.end[0] + 1)) - docstrings
            anys += token.string == "Any" and not token.line.startswith("from typing")
    return Count(1, len(text.splitlines()), len(code), len(comments), anys)


def prefix_files(folder: Path) -> list[Path]:
    """Return files that wear a folder's name: `torch_pass.py` beside `torch/`, one of three `torch_*.py`."""
    worn = []
    for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        names = [p for p in place.iterdir() if p.suffix == ".py" and not p.name.startswith("__")]
        words = Counter(p.stem.strip("_").split("_")[0] for p in names if "_" in p.stem.strip("_"))
        beside = {p.name for p in place.iterdir() if p.is_dir()}
        for path in names:
            first, rest = path.stem.strip("_").partition("_")[::2]
            if rest and first != "on" and (words[first] > 2 or first in beside):
                worn.append(path)
    return sorted(worn)


def circles() -> list[set[str]]:
    """Return the modules of each circle of imports while a program runs.

    Imports for type checkers alone are left out, those within functions are not.
    """
    import grimp

    graph = grimp.build_graph("chronocam", exclude_type_checking_imports=True)
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    found: list[set[str]] = []
    while True:
        try:
            TopologicalSorter(imports).prepare()
        except CycleError as error:
            circle = error.args[1]
            found.append(set(circle))
            imports[circle[1]].discard(circle[0])  # an arrow less, and the circle is open
        else:
            return found


def complexity(function: ast.AST) -> int:
    """Return one more than the branches of a function, those within expressions too, as radon counts them."""
    branches = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.Assert, ast.Lambda)
    number = 1
    for node in ast.walk(function):
        number += isinstance(node, branches)
        if isinstance(node, ast.BoolOp):
            number += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            number += 1 + len(node.ifs)
    return number


def complexities() -> list[int]:
    """Return the complexity of every function, most complex first."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return sorted(map(complexity, functions), reverse=True)


def import_time() -> tuple[int, float]:
    """Return the modules that `import chronocam` loads, and the least seconds of computing of five runs."""
    code = "import sys, time; import chronocam; print(len(sys.modules), time.process_time())"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    pairs = [run.stdout.split() for run in runs]
    return int(pairs[0][0]), min(float(seconds) for _, seconds in pairs)


def numbers() -> Iterator[tuple[str, str]]:
    """Yield what is counted and its value."""
    for name in ("src", "benchmarks", "tests"):
        total = sum(map(counted, sorted((ROOT / name).rglob("*.py"))), Count(0))
        yield f"{name}: files, lines, lines of code", f"{total.files}, {total.lines}, {total.code}"
        if name == "src":
            yield "comments per line of code", f"{total.comments / total.code:.1%}"
            yield "`Any` per 1000 lines of code", f"{1000 * total.anys / total.code:.0f}"
    rooms = [p for p in PACKAGE.iterdir() if (p.is_dir() and any(p.glob("*.py"))) or p.suffix == ".py"]
    yield "rooms", str(len([p for p in rooms if p.name != "__init__.py"]))
    yield "circles of imports", str(len(circles()))
    yield "files that wear a folder's name as a prefix", str(len(prefix_files(PACKAGE)))
    found = complexities()
    yield "functions more complex than 10, the most complex", f"{sum(n > 10 for n in found)}, {found[0]}"
    modules, seconds = import_time()
    yield "import chronocam: modules, seconds of computing", f"{modules}, {seconds:.2f}"


# Drawing

WIDTH, LEFT, REASONS, ROW, TOP = 1060, 20, 560, 46, 60
INKS = {"picture": "#2166ac", "clip": "#d6604d"}


def layers(text: str) -> list[tuple[list[str], str]]:
    """Return the rooms of every layer, from top to bottom, and the reason that the contract gives."""
    contract = text[text.index("layers = [") :].partition("\n]")[0]
    rows = re.findall(r'^\s+"([^"]+)",[ \t]*(?:# (.*))?$', contract, flags=re.MULTILINE)
    return [(rooms.split(" | "), reason) for rooms, reason in rows]


@dataclass(frozen=True)
class Box:
    """The place of a room."""

    x: float
    y: float
    width: float
    height: float = 30


def placed(rows: Sequence[tuple[list[str], str]]) -> dict[str, Box]:
    """Give every room of a layer the same width, layers from top to bottom."""
    boxes = {}
    for number, (rooms, _) in enumerate(rows):
        width = (REASONS - LEFT - 20 - 8 * (len(rooms) - 1)) / len(rooms)
        for place, room in enumerate(rooms):
            boxes[room] = Box(LEFT + place * (width + 8), TOP + number * ROW, width)
    return boxes


def stops(boxes: Mapping[str, Box]) -> list[tuple[float, float]]:
    """Return where each step of the way lies: at the lower edge of its room, later steps further right."""
    visits = Counter(room for room, *_ in WAY)
    before: Counter[str] = Counter()
    points = []
    for room, *_ in WAY:
        before[room] += 1
        box = boxes[room]
        points.append((box.x + box.width * before[room] / (visits[room] + 1), box.y + box.height))
    return points


def line(points: Iterable[tuple[float, float]], shift: float, ink: str) -> str:
    """Draw a way as a smooth line, shifted so that two ways lie side by side."""
    (x, y), *rest = [(x + shift, y) for x, y in points]
    path = f"M{x:.0f},{y:.0f}"
    for to_x, to_y in rest:
        bend = 24 if abs(to_y - y) < ROW else 0  # within a layer the line hangs below the boxes
        middle = (y + to_y) / 2
        path += f" C{x:.0f},{middle + bend:.0f} {to_x:.0f},{middle + bend:.0f} {to_x:.0f},{to_y:.0f}"
        x, y = to_x, to_y
    return f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="2" opacity="0.55"/>'


def words(x: float, y: float, text: str, ink: str = "#333", more: str = "") -> str:
    """Write a line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{ink}"{more}>{escape(text)}</text>'


def badge(x: float, y: float, number: int) -> str:
    """Draw the number of a step."""
    ring = f'<circle cx="{x:.0f}" cy="{y:.0f}" r="9" fill="#fff" stroke="#333"/>'
    return ring + words(x, y + 4, str(number), more=' text-anchor="middle" font-size="11"')


def drawing(text: str) -> str:
    """Draw the layers of a pyproject.toml's contract, with the ways of a picture and of a clip, as SVG."""
    rows = layers(text)
    boxes, legend = placed(rows), TOP + len(rows) * ROW + 30
    points, height = stops(boxes), legend + 20 * len(WAY) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="13" role="img">',
        "<title>The layers of chronocam, and the way of a picture and of a clip through them</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        words(LEFT, 28, "A module imports only from lower layers.", more=' font-size="16"'),
        words(LEFT, 46, "The rooms of one layer do not know each other."),
        words(REASONS, 28, "The way of a picture", INKS["picture"]),
        words(REASONS + 160, 28, "and of a clip", INKS["clip"]),
    ]
    for number, (_, reason) in enumerate(rows):
        parts.append(words(REASONS, TOP + number * ROW + 20, reason, "#555", ' font-size="12"'))
    for box in boxes.values():
        parts.append(
            f'<rect x="{box.x:.0f}" y="{box.y}" width="{box.width:.0f}" height="{box.height:.0f}" rx="5" '
            'fill="#f2f2ee" stroke="#999"/>'
        )
    parts += [line(points, -2, INKS["picture"]), line(points, 2, INKS["clip"])]
    parts += [words(box.x + 8, box.y + 18, room, "#111") for room, box in boxes.items()]
    parts += [badge(x, y, number) for number, (x, y) in enumerate(points, 1)]
    for number, (room, picture, clip) in enumerate(WAY, 1):
        y = legend + 20 * number
        parts += [badge(LEFT + 9, y - 4, number), words(LEFT + 28, y, room, "#111")]
        parts.append(words(LEFT + 130, y, picture, INKS["picture"]))
        parts.append(words(REASONS, y, clip, INKS["clip"]) if clip else "")
    return "\n".join([*filter(None, parts), "</svg>", ""])


def main() -> None:
    """Print the numbers, or write the drawing."""
    if "--draw" in sys.argv:
        contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        DRAWING.write_text(drawing(contract), encoding="utf-8")
        return
    for what, value in numbers():
        print(f"{what:55} {value}")


if __name__ == "__main__":
    main()
