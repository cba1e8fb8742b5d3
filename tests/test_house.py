"""The house is drawn from its contract, and what is counted of it keeps what was reached."""

from pathlib import Path

from scripts import house

ROOT = Path(__file__).resolve().parents[1]


def test_the_drawing_is_what_the_script_makes_of_the_contract() -> None:
    made = house.drawing((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert house.DRAWING.read_text(encoding="utf-8") == made, "python scripts/house.py --draw"


def test_a_layer_less_changes_the_drawing() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '    "report",' in text
    assert ">report</text>" in house.drawing(text)
    assert ">report</text>" not in house.drawing(text.replace('    "report",', ""))


def test_every_layer_stands_in_the_table() -> None:
    rows = [
        line.split("|")[2]
        for line in (ROOT / "docs" / "house.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    for rooms, _ in house.layers((ROOT / "pyproject.toml").read_text(encoding="utf-8")):
        for room in rooms:
            assert any(f"`{room}" in row for row in rows), f"docs/house.md leaves out {room}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert house.circles() == []


def test_files_live_in_folders_and_do_not_wear_their_names() -> None:
    assert house.prefix_files(house.PACKAGE) == []


def test_prefixes_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("torch_a.py", "torch_b.py", "torch_c.py", "clips_video.py", "two_a.py", "two_b.py"):
        (tmp_path / name).touch()
    names = [path.name for path in house.prefix_files(tmp_path)]
    assert names == ["clips_video.py", "torch_a.py", "torch_b.py", "torch_c.py"]


def test_what_is_counted_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        '"""Two\nlines."""\n\nfrom typing import Any\n\n# why\nx: Any = [\n    1,  # one\n]\n',
        encoding="utf-8",
    )
    assert house.counted(path) == house.Count(1, 9, 4, 2, 1)
