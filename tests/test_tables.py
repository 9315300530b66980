"""Tables of eyes and of pairs, as spreadsheets and people write them."""

import csv

import pytest

from mlr.errors import DataError
from mlr.io.images import write_image
from mlr.io.pairs import find_pairs
from mlr.io.tables import read_table
from mlr.photo.eyes import Eyes, EyeTable
from tests.conftest import draw

HEAD = "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y"
EYES = Eyes(20.5 + 30j, 40.5 + 30j)  # in the next rows; a whole number is the centre of a pixel
TEXT = f"{HEAD}\nann é.png,20,29.5,40,29.5\n"
WRITTEN = {
    "commas": TEXT,
    "commas at the ends": f"{HEAD},,\nann é.png,20,29.5,40,29.5,,\n,,,,,,\n,,,,,,\n",
    "semicolons": TEXT.replace(",", ";"),
    "semicolons, decimal commas": TEXT.replace(",", ";").replace(".5", ",5"),
    "tabs": TEXT.replace(",", "\t"),
    "tabs, decimal commas": TEXT.replace(",", "\t").replace(".5", ",5"),
    "bars": TEXT.replace(",", "|"),
    "separator named": "sep=;\r\n" + TEXT.replace(",", ";"),
    "blanks after commas": TEXT.replace(",", ", "),
    "blanks around": TEXT.replace(",", " , "),
    "quotes": '"file","left_eye_x","left_eye_y","right_eye_x","right_eye_y"\n'
    '"ann é.png","20","29.5","40","29.5"\n',
    "blanks and quotes": f'{HEAD}\n"ann é.png", "20", "29.5", "40", "29.5"\n',
    "decimal commas in quotes": f'{HEAD}\nann é.png,20,"29,5",40,"29,5"\n',
    "capitals": TEXT.replace(HEAD, "File,Left_Eye_X,LEFT_EYE_Y,right_eye_x,Right Eye Y"),
    "other order": "note,right_eye_y,right_eye_x,left_eye_y,left_eye_x,file\n"
    "x,29.5,40,29.5,20,ann é.png\n",
    "empty lines": "\n\n" + TEXT.replace("\n", "\n\n  \n"),
    "no end of the last line": TEXT.rstrip("\n"),
    "carriage returns": TEXT.replace("\n", "\r"),
    "Windows": TEXT.replace("\n", "\r\n"),
    "Windows, empty lines": ("\n" + TEXT + "\n\n").replace("\n", "\r\n"),
    "another case and form of the name": TEXT.replace("ann é", "Ann e\N{COMBINING ACUTE ACCENT}"),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("way", WRITTEN)
def test_eyes_are_read(tmp_path, way, encoding):
    path = tmp_path / "eyes.csv"
    text = WRITTEN[way]
    if encoding == "cp1252" and "\N{COMBINING ACUTE ACCENT}" in text:
        text = text.replace("e\N{COMBINING ACUTE ACCENT}", "é")
    path.write_bytes(text.encode(encoding))
    assert EyeTable(path).of(tmp_path / "ann é.png") == [EYES]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_manifests_are_read(tmp_path, separator, encoding):
    for name in ("a, é.png", "b.png"):
        write_image(tmp_path / name, draw(0, 16))
    rows = [["Source", "Target", "Expression"], ['"a, é.png"', "b.png", "happy"], ["", "", ""]]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "pairs.csv").write_bytes(text.encode(encoding))
    (subject,) = find_pairs(tmp_path).subjects
    assert subject.source == tmp_path / "a, é.png"
    assert subject.targets == {"happy": tmp_path / "b.png"}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is empty; expected the columns file,left_eye_x"),
        (",,,,\n;;\n", "is empty; expected"),
        ("ann.png,20,29,40,29\n", "its first line is ann.png,20,29,40,29; expected the columns"),
        (f"{HEAD}\nann.png,20,29,5,40,29,5\n", "line 2: has 7 cells, but the first line 5; put qu"),
        (f"sep=,\n\n{HEAD}\n\nann.png,20,29,40,x\n", "line 5: .*'x'; expected numbers"),
        (f"{HEAD}\r\rann.png,20,29,40\r", "line 3: expected a file and four numbers"),
        (f"{HEAD},FILE\nann.png,1,2,3,4,b\n", "two columns file; remove or rename one"),
        (f'{HEAD}\n"ann.png,1,2,3,4\n' + "x" * 140_000, "not a CSV file: field larger"),
        (f"{HEAD}\nann\0\xff", "not a CSV file in UTF-8 or UTF-16"),
    ],
)
def test_the_error_says_what_to_change(tmp_path, text, cause):
    path = tmp_path / "eyes.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=cause) as error:
        EyeTable(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


def test_names_keep_their_blanks(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "x"], [" a.png", "1"], ["b.png ", "2"], ['"c', "3"]])
    rows = [(line, row["file"], row["x"]) for line, row in read_table(path, ("file",))]
    assert rows == [(2, " a.png", "1"), (3, "b.png ", "2"), (4, '"c', "3")]


def test_eyes_of_files_that_are_not_there_are_noted(run, model, faces, tmp_path):
    face = faces / "neutral" / "0.png"
    table = tmp_path / "eyes.csv"
    table.write_text(f"{HEAD}\n0.jpg,20,29,40,29\nbob.png,20,29,40,29\n")
    result = run("synthesize", model, face, "-o", tmp_path / "out", "--eyes", table)
    note = f"note: {table} has eyes for 0.jpg, bob.png, but no input has such a name"
    assert note in result.lines
    table.write_text(f"{HEAD}\n0.png,40,48,88,48\nbob.png,20,29,40,29\n")
    result = run("synthesize", model, face, "-o", tmp_path / "out2", "--eyes", table)
    assert "eyes for" not in result.err
