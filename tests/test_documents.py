"""The documentation: its code runs, its commands exist, and its links lead somewhere."""

import ast
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import click
import figures
import numpy as np
import pytest

import mlr
from benchmarks import tables
from benchmarks.comparison import report
from mlr.cli import cli
from mlr.io.images import read_image, resized, write_image
from mlr.io.names import SCHEMES
from mlr.photo import detect
from mlr.samples import draw_face
from tests.conftest import draw_pairs

ROOT = Path(__file__).parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
#: Options in prose that are not of the program.
FOREIGN = {"--write"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def command_lines(page):
    """Return the arguments of the program in all shell blocks of a page."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    words = [shlex.split(line.removeprefix("python -m "), comments=True) for line in lines]
    return [line[1:] for line in words if line[:1] == ["mlr"]]


def parse(words, monkeypatch):
    """Parse a command line as the program does, but for files that need not exist."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: Path(value))
    monkeypatch.setattr("mlr.cli.options._Existing.convert", click.Path.convert)
    if words == ["--version"]:
        return
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, words[0]
    command.make_context(words[0], words[1:])


@every_page
def test_commands_are_those_of_the_program(page, monkeypatch):
    for words in command_lines(page):
        try:
            parse(list(words), monkeypatch)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: mlr {shlex.join(words)}: {error.format_message()}")


def test_wrong_commands_are_noticed(monkeypatch):
    with pytest.raises(click.NoSuchOption):
        parse(["train", "faces/", "-o", "model.npz", "--fast"], monkeypatch)
    with pytest.raises(click.BadParameter):
        parse(["synthesize", "m.npz", "faces/", "--region", "nose"], monkeypatch)
    with pytest.raises(AssertionError):
        parse(["learn", "faces/"], monkeypatch)


def options_of(command):
    return {name for each in command.params for name in [*each.opts, *each.secondary_opts]}


@every_page
def test_options_and_commands_in_prose_exist(page):
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    known = set().union(*map(options_of, commands.values())) | {"--version"} | FOREIGN
    for words in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text()):
        name = re.match(r"mlr ([a-z]+)", words)
        if name and name[1] != "COMMAND":
            assert name[1] in commands, f"{page.name}: {words}"
        if name or words.startswith("--"):
            found = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", words))
            allowed = options_of(commands[name[1]]) if name and name[1] in commands else known
            assert found <= allowed | {"--help"}, f"{page.name}: {words}"


@every_page
def test_targets_and_extras_exist(page):
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in re.findall(r"`make ([a-z-]+)", text):
        assert name in targets, name
    for names in re.findall(r"(?:masked-linear-regression|'\.)\[([a-z,]+)\]", text):
        assert set(names.split(",")) <= set(extras["optional-dependencies"])


@every_page
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_known_data_sets_are_listed():
    rows = re.findall(
        r"^\| `([a-z]+)` \|[^|]+\| `([^`]+)` \|", (DOCS / "data.md").read_text(), re.M
    )
    assert dict(rows) == {name: scheme.example for name, scheme in SCHEMES.items()}


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    ("page", "part", "results", "write"),
    [
        (README, "rivals", "rivals-photographs", report.readme),
        (DOCS / "comparison.md", "rivals on photographs", "rivals-photographs", report.summary),
        (DOCS / "comparison.md", "rivals", "rivals", report.summary),
    ],
)
def test_tables_of_rivals_were_measured(page, part, results, write):
    folder = ROOT / "benchmarks" / "results"
    result = json.loads((folder / f"{results}.json").read_text())
    assert (folder / f"{results}.md").read_text() == report.markdown(result)
    shown = page.read_text().split(f"<!-- {part}: ")[1].split(" -->\n", 1)[1]
    assert shown.split(f"<!-- end of {part} -->")[0] == write(result)


def test_figures_of_the_measurements_were_measured():
    """The table contains the rounded results."""
    measured = (ROOT / "benchmarks" / "results" / "quality.md").read_text().split("\n## ")[-1]
    rows = [
        ("copy of the input", "copy of the input"),
        ("paper: 3x3, penalty 0.4", "paper"),
        ("**best**, style 0", "best, style 0"),
        ("**best**, default style (teeth)", "best, default style"),
    ]
    for name, recipe in rows:
        cells = cells_of((DOCS / "measurements.md").read_text(), name)[0]
        whole, parts = cells_of(measured, recipe)[:2]
        expected = [whole[0], whole[2], *parts[:4], parts[5], whole[4]]
        for found, figure in zip(cells, expected, strict=True):
            digits = len(found.partition(".")[2])
            rounding = 0.5 * 10.0**-digits + 0.5 * 10.0 ** -len(figure.partition(".")[2])
            assert abs(float(found) - float(figure)) <= rounding, name


def cells_of(text, name):
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]


def test_tables_are_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    for page, part in (("measurements.md", "speeds"), ("comparison.md", "rivals")):
        text = (DOCS / page).read_text()
        (tmp_path / page).write_text(text)
        tables.renew_page(page, part, "| new |\n")
        new = (tmp_path / page).read_text()
        assert re.search(rf"<!-- {part}: make .* -->\n\| new \|\n<!-- end of {part} -->", new)
        assert new.splitlines()[:5] == text.splitlines()[:5]
        assert new.splitlines()[-5:] == text.splitlines()[-5:]


def run_blocks(page, known):
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), known)
    return known


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = run_blocks(README, {})["model"]
    assert model.expressions == ("happy",)
    assert len(list((tmp_path / "happier").iterdir())) == model.info.pairs["happy"]
    assert mlr.load("model.npz").expressions == model.expressions


def test_python_of_the_reference_runs(tmp_path, monkeypatch):
    draw_pairs(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    known = {"images": images, "X": images, "T": images[::-1], "X_new": images}
    photo = np.full((400, 600, 3), 90, np.uint8)
    photo[90:340, 230:480] = resized(draw_face(0, 1), 250, 250)
    write_image(tmp_path / "party.jpg", photo)
    run_blocks(DOCS / "python.md", known)
    assert (known["changed"] != read_image(tmp_path / "party.jpg").pixels).any()
    assert known["frames"].shape == (24, *photo.shape)
    assert [face.shape for face in known["faces"]] == [(128, 128, 3)]
    assert known["softer"].shape == known["Y"].shape == images.shape
    assert (tmp_path / "model.npz").is_file()


@pytest.mark.slow
def test_python_of_clusters_runs(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    draw_pairs(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    known = run_blocks(DOCS / "large.md", {"__name__": "__main__"})
    assert known["model"].expressions == ("happy",)


def test_all_other_pages_have_no_python():
    tested = {"README.md", "python.md", "large.md", "game.md"}  # the last in test_onnx.py
    assert {page.name for page in PAGES if blocks(page, "python")} == tested


def test_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    known = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            shown = evaluated("".join(cell["source"]), known)
            outputs = [output.get("data", {}) for output in cell["outputs"]]
            assert (shown is not None) == any("text/plain" in data for data in outputs)
    assert [fit.unlike for fit in known["fits"]] == [False, True]
    assert known["sad"].shape == known["X"][26:].shape


def evaluated(code, known):
    """Run code, and return the value of its last line if this is an expression."""
    *lines, last = ast.parse(code).body
    exec(compile(ast.Module(lines, []), "notebook", "exec"), known)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "notebook", "eval"), known)
    return exec(compile(ast.Module([last], []), "notebook", "exec"), known)


@pytest.mark.skipif(not detect.installed(), reason="needs the extra align")
@pytest.mark.parametrize(
    "name", ["README.md", pytest.param("docs/tutorial.md", marks=pytest.mark.slow)]
)
def test_commands_work_in_order(name, run, tmp_path, monkeypatch):
    """On photographs of drawn faces, word for word."""
    for number, stem in enumerate(("ann", "bob", "cem", "dan", "eve", "fay", "gil", "han")):
        for expression in ("neutral", "happy"):
            photograph = np.full((230, 210, 3), 200, np.uint8)
            photograph[50:210, 25:185] = draw_face(0, number, expression, 160)
            write_image(tmp_path / "photos" / expression / f"{stem}.jpg", photograph)
    shutil.copy(tmp_path / "photos" / "neutral" / "ann.jpg", tmp_path / "photo.jpg")
    mlr.sample(tmp_path / "test", pairs=2, seed=1, target="happy")
    monkeypatch.chdir(tmp_path)
    for words in command_lines(ROOT / name):
        result = run(*words)
        assert result.code == 0, (words, result.err)
    changed = sorted(path.name for path in Path("photos/neutral-happy").iterdir())
    assert changed == sorted(path.name for path in Path("photos/neutral").iterdir())


@pytest.mark.slow
def test_pictures_of_the_method_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    mlr.sample(tmp_path / "faces", pairs=8, size=64, target=["happy", "surprised"])
    mlr.train(tmp_path / "faces", tmp_path / "model.npz")
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "figures")
    figures.main(str(tmp_path / "model.npz"), str(tmp_path / "faces"))
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {path.name for path in (DOCS / "figures").iterdir()}
    method, styles = ((DOCS / name).read_text() for name in ("method.md", "styles.md"))
    assert all(f"figures/{name}" in method + styles for name in drawn)
