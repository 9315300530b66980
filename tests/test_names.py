"""Names of files in known data sets and by patterns, which tell subjects and expressions."""

import shutil

import numpy as np
import pytest

from mlr.core.alignment import EYES
from mlr.errors import DataError, OptionError
from mlr.io.images import read_image, write_image
from mlr.io.names import PLAIN, SCHEMES, read_names, scheme_of
from mlr.io.pairs import find_pairs
from mlr.samples import draw_face
from tests.conftest import draw_pairs, names

SIZE = 32
HEADER = "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y"

#: By data set: files, which show an expression of a subject or are not wanted, and the crops.
KDEF = {
    "AF01/AF01NES.JPG": ("neutral/F01", 1),
    "AF01/AF01HAS.JPG": ("happy/F01", 1),
    "AF01/AF01HAHL.JPG": None,
    "AF01/AF01HAFR.JPG": None,
    "BF01/BF01NES.JPG": ("neutral/F01-2", 1),
    "BF01/BF01SUS.JPG": ("surprised/F01-2", 1),
    "AM02/AM02NES.JPG": ("neutral/M02", 2),
    "AM02/am02dis.jpg": ("disgusted/M02", 2),
}
RAFD = {
    "Rafd090_01_Caucasian_female_neutral_frontal.jpg": ("neutral/01", 1),
    "Rafd090_01_Caucasian_female_fearful_frontal.jpg": ("afraid/01", 1),
    "Rafd090_01_Caucasian_female_fearful_left.jpg": None,
    "Rafd045_01_Caucasian_female_fearful_frontal.jpg": None,
    "Rafd090_72_Moroccan_male_neutral_frontal.jpg": ("neutral/72", 2),
    "Rafd090_72_Moroccan_male_angry_frontal.jpg": ("angry/72", 2),
}
FEI = {
    "1a.jpg": ("neutral/1", 1),
    "1b.jpg": ("happy/1", 1),
    "12-11.jpg": ("neutral/12", 2),
    "12-12.jpg": ("happy/12", 2),
    "12-03.jpg": None,
    "12-14.jpg": None,
}
CK = {
    "cohn-kanade-images/S005/001/S005_001_00000001.png": ("neutral/S005", 1),
    "cohn-kanade-images/S005/001/S005_001_00000002.png": None,
    "cohn-kanade-images/S005/001/S005_001_00000011.png": ("disgusted/S005", 1),
    "cohn-kanade-images/S005/002/S005_002_00000001.png": None,
    "cohn-kanade-images/S005/002/S005_002_00000009.png": None,
    "cohn-kanade-images/S005/003/S005_003_00000001.png": ("neutral/S005-2", 1),
    "cohn-kanade-images/S005/003/S005_003_00000010.png": ("surprised/S005-2", 1),
}
JAFFE = {
    "KA.NE1.26.tiff": ("neutral/KA", 1),
    "KA.NE2.27.tiff": ("neutral/KA-2", 1),
    "KA.HA1.29.tiff": ("happy/KA", 1),
    "KA.HA2.30.tiff": ("happy/KA-2", 1),
    "KL.NE1.155.tiff": ("neutral/KL", 2),
    "KL.FE1.160.tiff": ("afraid/KL", 2),
}
CFD = {
    "WF-001/CFD-WF-001-003-N.jpg": ("neutral/WF-001", 1),
    "WF-001/CFD-WF-001-004-HC.jpg": ("happy_closed/WF-001", 1),
    "WF-001/CFD-WF-001-005-HO.jpg": ("happy_open/WF-001", 1),
    "BM-001/CFD-BM-001-014-N.jpg": ("neutral/BM-001", 2),
    "BM-001/CFD-BM-001-015-A.jpg": ("angry/BM-001", 2),
}
LONDON = {
    "neutral_front/001_03.jpg": ("neutral/001", 1),
    "smiling_front/001_08.jpg": ("happy/001", 1),
    "neutral_left/001_01.jpg": None,
}
MUG = {
    "001/anger/take000/img_0000.jpg": ("neutral/001", 1),
    "001/anger/take000/img_0001.jpg": ("angry/001", 1),
    "001/anger/take000/img_0002.jpg": None,
    "001/sadness/take002/img_0000.jpg": ("neutral/001-2", 1),
    "001/sadness/take002/img_0010.jpg": ("sad/001-2", 1),
    "001/sadness/take002/img_0020.jpg": None,
    "001/neutral/take000/img_0000.jpg": None,
}
DATA = {
    "kdef": KDEF,
    "rafd": RAFD,
    "fei": FEI,
    "ck": CK,
    "jaffe": JAFFE,
    "cfd": CFD,
    "london": LONDON,
    "mug": MUG,
}


def drawn(subject, expression):
    known = {"happy_open": "happy", "happy_closed": "sad"}  # any two others
    return draw_face(0, subject, known.get(expression, expression), SIZE)


def eyes_of(folder, files):
    """Write the table of eyes of drawn faces."""
    (x0, y0), (x1, y1) = (tuple(SIZE * x - 0.5 for x in eye) for eye in EYES)
    rows = [f"{file},{x0},{y0},{x1},{y1}" for file in files]
    (folder / "eyes.csv").write_text("\n".join([HEADER, *rows]))
    return folder / "eyes.csv"


def write(folder, wanted):
    """Draw the faces of a data set under their names; return the table of their eyes."""
    for number, (file, shown) in enumerate(wanted.items()):
        crop, subject = shown or ("neutral/", 50 + number)
        write_image(folder / file, drawn(subject, crop.split("/")[0]), quality=100)
    return eyes_of(folder, wanted)


def crops(folder):
    """Return the crops in a folder by their names without suffix."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): read_image(path).pixels.astype(float)
        for path in folder.rglob("*.*")
        if path.suffix != ".csv"
    }


def check_crops(found, wanted):
    shown = dict(filter(None, wanted.values()))
    assert set(found) == set(shown)
    for crop, subject in shown.items():
        expected = drawn(subject, crop.split("/")[0])
        assert np.abs(found[crop] - expected).mean() < 4  # JPEG; other faces differ by 9 and more


def label(folder, stem, number):
    path = folder / f"{stem.replace('_', '/', 2).rsplit('/', 1)[0]}/{stem}_emotion.txt"
    path.parent.mkdir(parents=True)
    path.write_text(f"   {number}.0000000e+00\n")


@pytest.mark.parametrize("dataset", DATA)
def test_data_sets_become_expression_folders(run, tmp_path, dataset):
    wanted, out = DATA[dataset], tmp_path / "out"
    eyes = write(tmp_path / "in", wanted)
    if dataset == "ck":
        label(tmp_path / "in" / "Emotion", "S005_001_00000011", 3)
        label(tmp_path / "in" / "Emotion", "S005_003_00000010", 7)
    options = ["--dataset", dataset, "--eyes", eyes, "--size", SIZE]
    result = run("align", tmp_path / "in", "-o", out, *options)
    assert result.code == 0
    check_crops(crops(out), wanted)
    skipped = list(wanted.values()).count(None)
    line = f"note: skipped {skipped} file{'s' * (skipped > 1)}: {SCHEMES[dataset].skips}"
    assert (line in result.lines) == bool(skipped)
    pairs = find_pairs(out)
    assert not pairs.problems
    assert len(pairs) == sum(crop[0] != "n" for crop, _ in filter(None, wanted.values()))


def test_sequences_without_labels_are_no_pictures(run, tmp_path):
    write(tmp_path, CK)
    result = run("align", tmp_path, "-o", tmp_path / "out", "--dataset", "ck")
    assert result.code == 1
    assert (
        "all are skipped (video frames between the first and the last, and sequences"
        in (result.lines[-1])
    )


def test_labels_are_found_in_a_folder_next_to_the_images(run, tmp_path):
    eyes = write(tmp_path, CK)
    label(tmp_path / "Emotion_labels", "S005_001_00000011", 3)
    label(tmp_path / "Emotion_labels", "S005_003_00000010", 7)
    options = ["--dataset", "ck", "--eyes", eyes, "--size", SIZE]
    result = run("align", tmp_path / "cohn-kanade-images", "-o", tmp_path / "out", *options)
    assert result.code == 0
    check_crops(crops(tmp_path / "out"), CK)


def test_names_that_match_nothing_are_named_and_others_aligned(run, tmp_path):
    wanted = KDEF | {"AM31H.JPG": None}
    eyes = write(tmp_path / "in", wanted)
    options = ["--dataset", "kdef", "--eyes", eyes, "--size", SIZE]
    result = run("align", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.code == 1
    assert f"mlr: {tmp_path}/in/AM31H.JPG: has no name like AF01NES.JPG" in result.lines
    check_crops(crops(tmp_path / "out"), KDEF)
    result = run("align", tmp_path / "in", "-o", tmp_path / "cfd", *options[2:], "--dataset", "cfd")
    assert result.code == 1
    assert result.lines[-1].startswith(
        "mlr: error: no name is like CFD-WF-001-003-N.jpg, of 9 files: AF01/AF01HAFR.JPG, "
    )


def test_pictures_without_a_neutral_one_are_skipped_unless_all_are(run, tmp_path):
    wanted = JAFFE | {"KA.HA3.31.tiff": None, "YM.SA1.1.tiff": None}
    eyes = write(tmp_path / "in", wanted)
    options = ["--dataset", "jaffe", "--eyes", eyes, "--size", SIZE]
    result = run("align", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.code == 0
    assert "note: skipped 2 pictures without a neutral one of the same subject" in result.lines
    check_crops(crops(tmp_path / "out"), JAFFE)
    happy = [tmp_path / "in" / file for file in wanted if ".HA" in file]
    assert run("align", *happy, "-o", tmp_path / "happy", *options).code == 0
    assert names(tmp_path / "happy" / "happy") == ["KA-2.tiff", "KA-3.tiff", "KA.tiff"]


@pytest.mark.parametrize(
    ("pattern", "file", "expected"),
    [
        ("{subject}_{expression}.jpg", "ann_lee_Happy.JPG", ("happy", "ann_lee")),
        ("{subject}_{expression}.jpg", "a/ann_happy.png", ("happy", "a/ann")),
        ("{expression}-{subject}.jpg", "happy-ann-lee.jpg", ("happy", "ann-lee")),
        ("{expression}-{subject}.jpg", "happy/happy-ann.jpg", ("happy", "ann")),
        ("{subject}/{expression}*.png", "ann/happy12.png", ("happy", "ann")),
        ("*_{subject}_{expression}_*", "x.y_ann_sad_3.bmp", ("sad", "ann")),
        ("({subject})+{expression}.jpg", "(ann)+sad.jpg", ("sad", "ann")),
        ("{subject}_{expression}.jpg", "ann.jpg", None),
        ("{subject}_{expression}.jpg", "ann_..jpg", None),
    ],
)
def test_patterns(pattern, file, expected):
    reading = read_names([file], scheme_of(None, pattern))
    assert reading.found == ({} if expected is None else {file: expected})


def test_takes_number_the_pictures_of_a_subject():
    files = [f"ann_{e}{n}.png" for e, n in (("neutral", 1), ("neutral", 4), ("sad", 4))]
    reading = read_names(files, scheme_of(None, "{subject}_{expression}{take}"))
    assert [tuple(reading.found[file]) for file in files] == [
        ("neutral", "ann"),
        ("neutral", "ann-2"),
        ("sad", "ann-2"),
    ]


def test_video_frames_are_in_the_order_of_their_numbers():
    files = [f"001/fear/take0/img_{n}.jpg" for n in (8, 9, 10, 11, 12)]
    found = read_names(files, SCHEMES["mug"]).found
    assert [(file, each.expression) for file, each in found.items()] == [
        (files[0], "neutral"),
        (files[2], "afraid"),
    ]


def test_numbers_do_not_collide_with_subjects():
    files = ["a_sad.jpg", "a_sad.png", "a-2_sad.png"]
    reading = read_names(files, scheme_of(None, "{subject}_{expression}"))
    assert sorted(found.name for found in reading.found.values()) == ["a", "a-2"]
    assert len(reading.unmatched) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--dataset", "kdfe"], "unknown data set 'kdfe'; there are: kdef, rafd, "),
        (["--dataset", "kdfe"], "; did you mean 'kdef'?"),
        (["--names", "{subject}.jpg"], "expected {subject} and {expression} once each"),
        (["--names", "{subject}_{expression}_{x}"], "expected {subject} and {expression} once"),
        (["--names", "{subject}{subject}{expression}"], "expected {subject} and {expression} once"),
        (["--names", "{subject}{take}{take}{expression}"], "expected {subject} and {expression}"),
        (["--names", "{subject}_{expression}", "--dataset", "kdef"], "not both"),
    ],
)
def test_wrong_names_are_wrong_usage(run, tmp_path, options, reason):
    write_image(tmp_path / "in" / "ann_happy.png", drawn(0, "happy"))
    result = run("align", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.code == 2
    assert reason in result.lines[0]
    with pytest.raises(OptionError):
        scheme_of("kdef", "{subject}_{expression}")


def test_plain_names_are_recognised_by_align_and_train_alike(run, tmp_path):
    flat, sorted_ = tmp_path / "flat", tmp_path / "sorted"
    draw_pairs(sorted_, targets=("happy", "sad"))
    for path in sorted_.rglob("*.png"):
        flat.mkdir(exist_ok=True)
        shutil.copy(path, flat / f"{path.stem}_{path.parent.name}.png")
    models = {}
    for folder in (sorted_, flat):
        result = run("train", folder, "-o", tmp_path / "m.npz", "--recipe", "paper", "--force")
        assert result.code == 0
        models[folder] = (tmp_path / "m.npz").read_bytes()
    assert models[flat] == models[sorted_]
    assert "note: read names of files as ann_neutral.jpg, which show neutral, happy, sad" in (
        result.lines
    )
    write_image(flat / "party.png", drawn(0, "sad"))
    eyes = eyes_of(flat, [path.name for path in flat.glob("*.png")])
    result = run("align", flat, "-o", tmp_path / "out", "--eyes", eyes, "--size", 16)
    assert result.code == 0
    assert names(tmp_path / "out") == ["alignment.csv", "happy", "neutral", "party.png", "sad"]
    for expression in ("neutral", "happy", "sad"):
        assert names(tmp_path / "out" / expression) == names(sorted_ / expression)
    again = run("align", flat, "-o", tmp_path / "out", "--eyes", eyes, "--skip-existing")
    assert "0 crops written" in again.err


def test_names_in_expression_folders_may_end_in_the_expression(tmp_path):
    draw_pairs(tmp_path, subjects=[3])
    for path in tmp_path.rglob("*.png"):
        path.rename(path.with_stem(f"ann_{path.parent.name}"))
    pairs = find_pairs(tmp_path)
    assert [subject.name for subject in pairs.subjects] == ["ann"]
    assert pairs.subjects[0].source == tmp_path / "neutral" / "ann_neutral.png"
    assert not pairs.problems


def test_names_of_a_data_set_are_recognised_in_training(tmp_path):
    write(tmp_path, FEI)
    pairs = find_pairs(tmp_path, target=["happy"])
    assert {subject.name: subject.source.name for subject in pairs.subjects} == {
        "1": "1a.jpg",
        "12": "12-11.jpg",
    }
    (note,) = pairs.notes
    assert note.startswith("note: read names of files as 1a.jpg or 1-11.jpg, which show neutral, ")
    assert note.endswith("; skipped 2 files: " + SCHEMES["fei"].skips)
    assert not pairs.problems
    write_image(tmp_path / "party.jpg", drawn(0, "sad"))
    with pytest.raises(DataError, match="contains no folders; expected a folder 'neutral'"):
        find_pairs(tmp_path)


def test_file_without_a_name_like_the_others_is_named(tmp_path):
    for file in ("ann_neutral.png", "ann_sad.png", "bob_sad.png", "party.png"):
        write_image(tmp_path / file, drawn(0, "sad"))
    problems = {path.name: cause for path, cause in find_pairs(tmp_path).problems}
    assert set(problems) == {"bob_sad.png", "party.png"}
    assert all(cause.startswith("has no name like the others") for cause in problems.values())


def test_outputs_next_to_their_inputs_are_no_pictures(tmp_path):
    for file in ("ann_neutral.png", "ann_sad.png", "ann_neutral-sad.png"):
        write_image(tmp_path / file, drawn(0, "sad"))
    pairs = find_pairs(tmp_path)
    assert [(subject.name, subject.expressions) for subject in pairs.subjects] == [
        ("ann", ("sad",))
    ]
    assert not pairs.problems
    assert pairs.notes[0].endswith(f"; skipped 1 file: {PLAIN.skips}")
