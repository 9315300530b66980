"""Pairs in each of the layouts of data sets, and errors for files that cannot be used."""

import sys
import tracemalloc

import numpy as np
import pytest

import mlr
from mlr.errors import DataError, MlrWarning
from mlr.io.folders import list_files
from mlr.io.images import is_image, write_image
from mlr.io.pairs import find_pairs
from mlr.photo.eyes import EyeTable
from mlr.training.decode import common_format, decoded
from mlr.utils.progress import Report
from mlr.utils.threads import ordered_map
from tests.conftest import draw, draw_pairs

ORDINARY = "ann.png"
ODD_NAMES = ["two words.png", "größe 笑.png", "a\nb.png", "ANN.PNG", "a.b.Jpeg", "'\"$x;.webp"]


def touch(root, *names):
    """Create empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(pairs):
    """Return the file names of the source and of each target of all subjects."""
    return [
        (p.source.name, {name: path.name for name, path in p.targets.items()})
        for p in pairs.subjects
    ]


def causes(pairs):
    return {problem.path.name: problem.cause for problem in pairs.problems}


def manifest(root, text, **options):
    (root / "pairs.csv").write_text(text, newline="", **{"encoding": "utf-8", **options})
    return root


def test_same_stem_in_two_folders_is_a_pair(tmp_path):
    touch(tmp_path, "neutral/ann.png", "happy/ann.jpg", "sad/ann.bmp")
    pairs = find_pairs(tmp_path)
    assert pairs.source == "neutral"
    assert pairs.expressions == ("happy", "sad")
    assert found(pairs) == [("ann.png", {"happy": "ann.jpg", "sad": "ann.bmp"})]
    assert pairs.problems == ()
    assert len(pairs) == 2


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_paired(tmp_path, name):
    touch(tmp_path, f"neutral/{name}", f"happy/{name}")
    assert found(find_pairs(tmp_path)) == [(name, {"happy": name})]


def test_missing_partners_are_named_on_both_sides(tmp_path):
    touch(tmp_path, "neutral/a.png", "neutral/b.png", "happy/a.png", "happy/c.png", "sad/b.png")
    touch(tmp_path, "neutral/d.png")
    pairs = find_pairs(tmp_path)
    assert found(pairs) == [("a.png", {"happy": "a.png"}), ("b.png", {"sad": "b.png"})]
    assert [(p.path, p.cause) for p in pairs.problems] == [
        (tmp_path / "happy" / "c.png", "has no partner in neutral"),
        (tmp_path / "neutral" / "d.png", "has no partner in happy or sad"),
    ]
    assert pairs.notes == ("note: of 2 subjects, 1 lack happy, 1 lack sad",)


def test_same_stem_with_two_suffixes_is_named(tmp_path):
    touch(tmp_path, "neutral/a.jpg", "neutral/a.png", "happy/a.png")
    pairs = find_pairs(tmp_path)
    assert found(pairs) == [("a.jpg", {"happy": "a.png"})]
    assert causes(pairs) == {"a.png": "has the same stem as a .jpg file, which is used"}


def test_subfolders_are_part_of_the_name(tmp_path):
    touch(tmp_path, "neutral/x/1.png", "neutral/y/1.png", "happy/x/1.png", "happy/y/1.png")
    pairs = find_pairs(tmp_path)
    assert [subject.name for subject in pairs.subjects] == ["x/1", "y/1"]
    for subject in pairs.subjects:
        assert subject.targets["happy"].parent.name == subject.source.parent.name


def test_hidden_files_and_other_files_are_no_images(tmp_path):
    touch(tmp_path, "a.png", ".b.png", ".hidden/c.png", "notes.txt", "e", ".d.png.1234abcd.tmp")
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path, "folder.png/f.png")
    assert [p.relative_to(tmp_path).as_posix() for p in list_files(tmp_path, is_image).files] == [
        "a.png",
        "folder.png/f.png",
    ]


def test_broken_links_are_kept_and_others_followed(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "good.png").symlink_to("a.png")
    found = list_files(tmp_path, is_image)
    assert [path.name for path in found.files] == ["a.png", "broken.png", "good.png"]
    assert [path.name for path, _ in found.problems] == ["loop"]


def test_other_expressions_are_ignored(tmp_path):
    touch(tmp_path, "neutral/a.png", "neutral/b.png", "happy/a.png", "happy/b.png", "sad/z.png")
    pairs = find_pairs(tmp_path, target=["happy"])
    assert pairs.expressions == ("happy",)
    assert pairs.problems == ()


def test_another_source_makes_neutral_a_target(tmp_path):
    touch(tmp_path, "neutral/a.png", "happy/a.png")
    pairs = find_pairs(tmp_path, source="happy")
    assert found(pairs) == [("a.png", {"neutral": "a.png"})]


@pytest.mark.parametrize(
    ("folders", "split", "expected"),
    [
        (("trainA", "trainB"), "train", "trainA"),
        (("A", "B"), "train", "A"),
        (("A", "B"), "test", "A"),
        (("trainA", "trainB", "testA", "testB"), "train", "trainA"),
        (("trainA", "trainB", "testA", "testB"), "test", "testA"),
        (("trainA", "trainB"), "test", "trainA"),
        (("trainA", "trainB", "testA"), "test", "trainA"),
    ],
)
def test_two_folders(tmp_path, folders, split, expected):
    touch(tmp_path, *(f"{folder}/1.png" for folder in folders))
    pairs = find_pairs(tmp_path, split=split)
    assert (pairs.source, pairs.expressions) == ("A", ("B",))
    assert pairs.subjects[0].source.parent.name == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_manifest_with_any_line_ends_and_with_a_byte_order_mark(tmp_path, encoding, newline):
    lines = ["source,target,expression", "a.png,b.png,happy", '"x,é.png",sub/c.png,sad', ""]
    manifest(tmp_path, newline.join(lines), encoding=encoding)
    pairs = find_pairs(tmp_path)
    assert found(pairs) == [("a.png", {"happy": "b.png"}), ("x,é.png", {"sad": "c.png"})]
    assert pairs.subjects[1].targets["sad"] == tmp_path / "sub" / "c.png"


def test_manifest_rows_of_one_source_are_one_subject(tmp_path):
    manifest(
        tmp_path,
        "expression,target,source,note\n"
        "happy,1.png,a.png,\nsad,2.png,a.png,\nhappy,3.png,a.png,again\n,4.png,b.png\n",
    )
    assert found(find_pairs(tmp_path)) == [
        ("a.png", {"happy": "1.png", "sad": "2.png"}),
        ("a.png", {"happy": "3.png"}),
        ("b.png", {"target": "4.png"}),
    ]


@pytest.mark.parametrize("sources", [1, 10_000])
def test_reading_a_manifest_is_linear_in_its_lines(tmp_path, sources):
    def lines_of_code(rows):
        manifest(
            tmp_path,
            "source,target\n" + "".join(f"{n % sources}.png,{n}-b.png\n" for n in range(rows)),
        )
        count = 0

        def trace(frame, event, argument):
            nonlocal count
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            pairs = find_pairs(tmp_path)
        finally:
            sys.settrace(before)
        assert len(pairs) == rows
        return count

    assert lines_of_code(400) < 2.1 * lines_of_code(200)


def test_subjects_take_a_few_hundred_bytes_each(tmp_path):
    touch(
        tmp_path, *(f"{folder}/{n:05}.png" for folder in ("neutral", "happy") for n in range(900))
    )
    find_pairs(tmp_path)  # fills caches
    tracemalloc.start()
    try:
        pairs = find_pairs(tmp_path)
        assert tracemalloc.get_traced_memory()[0] < 500 * len(pairs)
    finally:
        tracemalloc.stop()


def test_incomplete_manifest_rows_are_named_by_their_line(tmp_path):
    manifest(tmp_path, "source,target\na.png,b.png\n,c.png\nd.png\n\ne.png,\n")
    pairs = find_pairs(tmp_path)
    assert found(pairs) == [("a.png", {"target": "b.png"})]
    assert [problem.cause.split(":")[0] for problem in pairs.problems] == [
        "line 3",
        "line 4",
        "line 6",
    ]


def test_expressions_of_a_manifest_can_be_selected(tmp_path):
    manifest(tmp_path, "source,target,expression\na,b,happy\na,c,sad\n,,sad\n")
    pairs = find_pairs(tmp_path, target=["happy"])
    assert found(pairs) == [("a", {"happy": "b"})]
    assert pairs.problems == ()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (b"", "is empty; expected the columns source,target"),
        (b"\n , ,\n", "is empty; expected the columns source,target"),
        (
            b"a,b\n1,2\n",
            "its first line is a,b; expected the columns source,target, it lacks source",
        ),
        (b"source,target\n\0,x\xff\n", "not a CSV file in UTF-8 or UTF-16"),
        (b"source,target,Source\na,b,c\n", "has two columns source; remove or rename one"),
        (b"source,target\n\na,b.png,happy\n", "line 3: has 3 cells, but the first line 2"),
        (b"source,target\n", "no pairs of images"),
        (b"source,target\na,\n", "names no source or no target; no pairs are left"),
        (b"source,target,expression\na,b,../x\n", "'../x' cannot be the name of a folder"),
        (b"source,target,expression\na,b,x\ty\n", "cannot be the name of a folder"),
        (b"source,target\n" + b"x" * 200_000, "not a CSV file: field larger"),
    ],
)
def test_manifest_that_cannot_be_used(tmp_path, text, cause):
    (tmp_path / "pairs.csv").write_bytes(text)
    with pytest.raises(DataError, match=r"pairs\.csv|no pairs") as error:
        find_pairs(tmp_path)
    assert cause in str(error.value)


@pytest.mark.parametrize(
    ("files", "options", "cause"),
    [
        ([], {}, "contains no folders; expected a folder 'neutral'"),
        (["a.png"], {}, "contains no folders"),
        (["happy/a.png", "sad/a.png"], {}, "contains happy, sad; expected a folder 'neutral'"),
        (["neutral/a.png"], {}, "no pairs of images"),
        (["neutral/a.png", "happy/b.png"], {}, "has no partner"),
        (["neutral/a.txt", "happy/a.txt"], {}, "no pairs of images"),
        (["neutral/a.png", "happy/a.png"], {"target": ["sad"]}, "no expression 'sad'.*: happy"),
        (["neutral/a.png", "happy/a.png"], {"source": "angry"}, "expected a folder 'angry'"),
        (["neutral/a.png", "happy/a.png"], {"source": ".."}, r"expected a folder '\.\.'"),
        (["neutral/a.png", "h\\y/a.png"], {}, "cannot be the name of a folder; rename it"),
        (["A/a.png", "B/a.png"], {"target": ["happy"]}, "no expression 'happy'.*: B"),
    ],
)
def test_error_for_a_folder_tells_what_is_found(tmp_path, files, options, cause):
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=cause) as error:
        find_pairs(tmp_path, **options)
    assert str(error.value).startswith(str(tmp_path))


def test_path_that_is_no_folder(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(DataError, match="file: is not a folder"):
        find_pairs(tmp_path / "file")
    with pytest.raises(DataError, match="none: does not exist"):
        find_pairs(tmp_path / "none")


def test_most_frequent_size_is_used_and_others_fail(tmp_path):
    draw_pairs(tmp_path, subjects=range(3))
    draw_pairs(tmp_path, subjects=[3, 4], size=20)
    write_image(tmp_path / "happy" / "2.png", draw(2, size=9), force=True)
    report = Report()
    with pytest.warns(MlrWarning) as warned:
        subjects, size = common_format(find_pairs(tmp_path), report)
    assert [subject.name for subject in subjects] == ["0", "1"]
    assert (size.height, size.width, size.channels) == (16, 16, 3)
    assert {path.relative_to(tmp_path).as_posix(): cause for path, cause in report.failures} == {
        "happy/2.png": "is 9x9 px, but its partner in the source expression is 16x16 px",
        "neutral/3.png": "is 20x20 px, but most images are 16x16 px; resize it",
        "neutral/4.png": "is 20x20 px, but most images are 16x16 px; resize it",
    }
    assert len(warned) == 3


def test_one_colour_image_makes_the_data_set_colour(tmp_path):
    draw_pairs(tmp_path, channels=1)
    write_image(tmp_path / "happy" / "0.png", draw(0), force=True)
    report = Report()
    subjects, size = common_format(find_pairs(tmp_path), report)
    assert size.channels == 3
    for (subject,) in decoded(subjects, size, report):
        for image in (subject.source, *subject.targets.values()):
            assert image.pixels.shape == (16, 16, 3)


def test_subjects_without_an_expression_count_for_the_others(tmp_path):
    draw_pairs(tmp_path, targets=("happy", "sad", "angry"))
    for name in ("sad/0.png", "sad/1.png", "angry/4.png"):
        (tmp_path / name).unlink()
    statistics = mlr.statistics(tmp_path, recipe="paper")
    assert find_pairs(tmp_path).notes == ("note: of 5 subjects, 1 lack angry, 2 lack sad",)
    assert statistics.pairs == {"angry": 4, "happy": 5, "sad": 3}
    for name, missing in (("happy", ()), ("sad", (0, 1)), ("angry", (4,))):
        images = np.stack([draw(n) for n in range(5) if n not in missing]).astype(np.int64)
        np.testing.assert_array_equal(
            statistics.sources[name].sums, images.sum(axis=0).transpose(2, 0, 1)
        )


def test_outputs_next_to_the_input_are_not_trained_on(tmp_path):
    draw_pairs(tmp_path, targets=("happy", "neutral-happy"))
    pairs = find_pairs(tmp_path)
    assert pairs.expressions == ("happy",)
    assert "skipped neutral-happy" in pairs.notes[0]
    assert find_pairs(tmp_path, target=["neutral-happy"]).expressions == ("neutral-happy",)


@pytest.mark.parametrize("threads", [1, 3])
def test_ordered_map_preserves_the_order_and_runs_a_few_items_ahead(threads):
    started = []

    def work(n):
        started.append(n)
        return n * n

    results = ordered_map(work, iter(range(1000)), threads)
    assert next(results) == 0
    assert len(started) <= 4 * threads
    assert list(results) == [n * n for n in range(1, 1000)]


def test_ordered_map_stops_at_an_error():
    started = []

    def work(n):
        started.append(n)
        if n == 3:
            raise ValueError("no")
        return n

    with pytest.raises(ValueError, match="no"):
        list(ordered_map(work, range(1000), 2))
    assert len(started) < 30


NFC, NFD = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize(
    ("neutral", "happy", "expected"),
    [
        ([NFC], [NFD], {NFC: NFD}),
        ([NFD], [NFC], {NFD: NFC}),
        (["Ann"], ["ann"], {"Ann": "ann"}),
        (["STRASSE"], ["straße"], {"STRASSE": "straße"}),
        ([NFC.upper()], [NFD], {NFC.upper(): NFD}),
        (["Ann", "ann"], ["ann", "Ann"], {"Ann": "Ann", "ann": "ann"}),
        (["Ann", "ann"], ["ann", "ANN"], {"Ann": "ANN", "ann": "ann"}),
        ([NFC, NFD], [NFC, NFD], {NFC: NFC, NFD: NFD}),
        ([NFC, NFD], [NFD], {NFD: NFD}),
        ([NFC], [NFC, NFD], {NFC: NFC}),
        (["Ann", "ann"], ["aNn"], {}),
        (["a\\b"], ["a\\b"], {"a\\b": "a\\b"}),
    ],
)
def test_spellings_of_a_name_pair_unless_it_is_unclear(tmp_path, neutral, happy, expected):
    touch(tmp_path, "neutral/x.png", "happy/x.png")
    touch(tmp_path, *(f"neutral/{name}.png" for name in neutral))
    touch(tmp_path, *(f"happy/{name}.JPG" for name in happy))
    pairs = find_pairs(tmp_path)
    files = {files[0][:-4]: files[1]["happy"][:-4] for files in found(pairs)}
    assert files == expected | {"x": "x"}
    named = [path.stem for path in (problem.path for problem in pairs.problems)]
    left = [*neutral, *happy]
    for name in (*expected, *expected.values()):
        left.remove(name)
    assert sorted(named) == sorted(left)


@pytest.mark.parametrize("name", ["neutral", "Neutral", "NEUTRAL"])
def test_subjects_in_names_pair_in_any_spelling(tmp_path, name):
    touch(tmp_path, f"{NFC}_{name}.png", f"{NFD.upper()}_happy.png")
    touch(tmp_path, "Bob_neutral.png", "bob_HAPPY.png", "bo_happy.png")
    pairs = find_pairs(tmp_path)
    assert len(pairs) == 2
    assert {path.name for path, _ in pairs.problems} == {"bo_happy.png"}


def test_folders_of_expressions_are_found_in_any_spelling(tmp_path):
    touch(tmp_path, f"{NFD}/1.png", f"Jo{NFC}/1.png")
    pairs = find_pairs(tmp_path, source=NFC.upper(), target=[f"jo{NFD}"])
    assert (len(pairs), pairs.expressions) == (1, (f"jo{NFC}",))
    touch(tmp_path, f"Jo{NFD}/1.png", f"jo{NFC}/1.png")
    assert find_pairs(tmp_path, source=NFD).expressions == (f"Jo{NFD}", f"Jo{NFC}", f"jo{NFC}")


@pytest.mark.parametrize(
    ("file", "spelling"),
    [
        (f"{NFC}.png", f"{NFD}.png"),
        (f"{NFD}/{NFC}.png", f"{NFC}/{NFD}.png"),
        ("Ann/B.png", "ann\\b.PNG"),
        ("a/b.png", "a\\b.png"),
        ("a\\b.png", "a\\b.png"),
        ("a/b.png", ".\\a\\b.png"),
        ("a/caf\udce9.png", r"a\caf\udce9.png"),
        ("caf\udce9.png", r"caf\udce9.png"),
        (r"caf\udce9.png", r"caf\udce9.png"),
    ],
)
def test_manifest_and_eyes_name_files_in_any_spelling(tmp_path, file, spelling):
    touch(tmp_path, file, "target.png")
    manifest(tmp_path, f"source,target\n{spelling},target.png\n")
    (subject,) = find_pairs(tmp_path).subjects
    assert subject.source.samefile(tmp_path / file)
    table = f"file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n{spelling},1,2,3,2\n"
    (tmp_path / "eyes.csv").write_text(table, encoding="utf-8")
    assert EyeTable(tmp_path / "eyes.csv").of(tmp_path / file)


def test_eyes_of_another_spelling_are_not_taken(tmp_path):
    touch(tmp_path, "Ann.png", "ann.png")
    table = "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\nann.png,1,2,3,2\n"
    (tmp_path / "eyes.csv").write_text(table, encoding="utf-8")
    eyes = EyeTable(tmp_path / "eyes.csv")
    assert (eyes.of(tmp_path / "Ann.png"), len(eyes.of(tmp_path / "ann.png"))) == (None, 1)
