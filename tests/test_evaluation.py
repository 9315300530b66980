import json
from random import Random

import numpy as np
import pytest
from skimage.metrics import structural_similarity

import mlr
from mlr._version import install
from mlr.errors import DataError, MlrWarning, OptionError, OutputExistsError
from mlr.evaluation import scores as scoring
from mlr.evaluation.evaluate import evaluate
from mlr.io.images import read_image, write_image
from mlr.io.model_file import save_model
from mlr.io.provenance import describe_image
from mlr.samples import sample
from mlr.utils.progress import Report
from tests.naive import naive_face, naive_mouth, naive_region_scores

SIZE = 16


@pytest.fixture(autouse=True)
def without_embeddings(monkeypatch):
    """Embeddings take long; `test_identity` tests them."""
    monkeypatch.setattr(scoring, "installed", lambda: False)


def smooth(seed):
    noise = np.random.default_rng(seed).normal(size=(SIZE, SIZE, 3))
    image = np.cumsum(np.cumsum(noise, axis=0), axis=1)
    return np.rint((image - image.min()) / np.ptp(image) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for subject in range(12):
        face = smooth(subject)
        write_image(folder / "neutral" / f"{subject:02d}.png", face)
        write_image(folder / "happy" / f"{subject:02d}.png", face[::-1])
        write_image(folder / "sad" / f"{subject:02d}.png", np.roll(face, 1, axis=1))
    return folder


@pytest.fixture(scope="module")
def model(data):
    return mlr.train(data)


def test_the_scores_are_those_of_the_written_images(data, model):
    result = evaluate(model, data)
    assert result["pairs"] == 24
    assert list(result["targets"]) == ["happy", "sad"]
    for name, scores in result["targets"].items():
        expected = {"mse": [], "psnr": [], "ssim": [], "sharpness": []}
        copied = []
        for path in sorted((data / "neutral").iterdir()):
            x = read_image(path).pixels
            y, t = model.synthesize(x, name) / 255, read_image(data / name / path.name).pixels / 255
            expected["mse"].append(np.square(y - t).mean())
            expected["psnr"].append(-10 * np.log10(expected["mse"][-1]))
            expected["ssim"].append(
                structural_similarity(
                    y,
                    t,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=1,
                    channel_axis=2,
                )
            )
            steps = [np.concatenate([np.diff(i, axis=a).ravel() for a in (0, 1)]) for i in (y, t)]
            expected["sharpness"].append(np.abs(steps[0]).mean() / np.abs(steps[1]).mean())
            copied.append(np.square(x / 255 - t).mean())
        for measure, values in expected.items():
            assert scores[measure] == pytest.approx(np.mean(values), rel=1e-9)
        assert scores["copy_input"]["mse"] == pytest.approx(np.mean(copied))
        keys = ["mse", "psnr", "ssim", "sharpness", "face", "mouth", "same_person"]
        assert list(scores) == [*keys, "copy_input", "fitted", "interval"]
        assert list(scores["copy_input"]) == keys
        for part in (scores, scores["copy_input"]):
            assert list(part["face"]) == list(part["mouth"]) == ["mse", "ssim", "sharpness"]


def test_the_scores_of_face_and_mouth_are_means_over_the_pairs(data, model):
    result = evaluate(model, data, target=["happy"])["targets"]["happy"]
    for name, pixels in (("face", naive_face(SIZE, SIZE)), ("mouth", naive_mouth(SIZE, SIZE))):
        expected = {"ours": [], "copied": []}
        for path in sorted((data / "neutral").iterdir()):
            x, t = (read_image(data / e / path.name).pixels for e in ("neutral", "happy"))
            for whose, y in (("ours", model.synthesize(x, "happy")), ("copied", x)):
                expected[whose].append(naive_region_scores(y / 255, t / 255, pixels))
        for whose, part in (("ours", result[name]), ("copied", result["copy_input"][name])):
            for measure, mean in part.items():
                values = [scores[measure] for scores in expected[whose]]
                assert mean == pytest.approx(np.mean(values), rel=1e-9)


def naive_interval(sums, counts, seed=5):
    """The bootstrap as a plain loop, with other random numbers."""
    random, means = Random(seed), []
    for _ in range(4000):
        drawn = [random.randrange(len(sums)) for _ in sums]
        means.append(sum(sums[i] for i in drawn) / sum(counts[i] for i in drawn))
    means.sort()
    return [means[99], means[3899]]


def test_intervals_are_the_percentiles_of_means_over_subjects_drawn_again(data, model):
    scores = evaluate(model, data, target=["happy"])["targets"]["happy"]
    interval = scores["interval"]
    assert list(interval) == [*list(scores)[:7], "copy_input"]
    errors = {"ours": [], "copied": []}
    for path in sorted((data / "neutral").iterdir()):
        x, t = (read_image(data / e / path.name).pixels / 255 for e in ("neutral", "happy"))
        y = model.synthesize(read_image(path).pixels, "happy") / 255
        for whose, output in (("ours", y), ("copied", x)):
            error = naive_region_scores(output, t, naive_face(SIZE, SIZE))["mse"]
            errors[whose].append(error)
    for whose, part in (("ours", interval), ("copied", interval["copy_input"])):
        expected = naive_interval(errors[whose], [1] * 12)
        spread = np.std(errors[whose]) / np.sqrt(12)
        np.testing.assert_allclose(part["face"]["mse"], expected, rtol=0, atol=0.15 * spread)
        assert part["face"]["mse"][0] < np.mean(errors[whose]) < part["face"]["mse"][1]


def test_a_subject_is_drawn_with_all_its_pairs():
    values = [1.0, 1.2, 1.1, 5.0, 2.0, 3.0, 2.5, 4.0, 1.5, 3.5]
    names = ["ann", "ann-2", "ann-3", *"bcdefgh"]
    subjects = scoring.subjects_of(names)
    assert subjects == ["ann", "ann", "ann", *"bcdefgh"]
    assert scoring.subjects_of(["ann-2", "s-1", "s-2"]) == ["ann-2", "s-1", "s-2"]
    found = scoring.mean_interval(values, subjects)
    expected = naive_interval([3.3, *values[3:]], [3, *[1] * 7])
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.08)
    alone = scoring.mean_interval(values)
    assert np.abs(np.subtract(found, alone)).max() > 0.1
    order = np.random.default_rng(0).permutation(10)
    shuffled = [values[n] for n in order], [subjects[n] for n in order]
    assert scoring.mean_interval(*shuffled) == pytest.approx(found, rel=1e-12)


def test_many_subjects_are_drawn_in_parts_with_the_same_result(monkeypatch):
    values = np.random.default_rng(3).random(50)
    found = scoring.mean_interval(values)
    monkeypatch.setattr(scoring, "DRAWN", 170)
    assert scoring.mean_interval(values) == found


def test_a_mean_without_a_spread_has_no_interval():
    assert scoring.mean_interval([0.5]) is None
    assert scoring.mean_interval([0.5, 0.6], ["ann", "ann"]) is None
    assert scoring.mean_interval([0.5, None]) is None
    assert scoring.mean_interval([0.5, np.inf]) is None
    assert scoring.mean_interval([0.5, 0.5]) == [0.5, 0.5]


def test_intervals_hold_the_mean_as_often_as_they_say():
    random = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        low, high = scoring.mean_interval(random.exponential(size=40))
        held += low < 1 < high
    assert 0.88 < held / 400 < 0.98


def test_the_share_of_inputs_that_fit_is_that_of_the_registration(tmp_path):
    sample(tmp_path, pairs=10, size=64, target=["happy"])
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    model = mlr.train(tmp_path)
    for expression in ("neutral", "happy"):
        write_image(tmp_path / expression / "noise.png", noise)
    scores = evaluate(model, tmp_path)["targets"]["happy"]
    kept = 0
    for path in (tmp_path / "neutral").iterdir():
        pixels = read_image(path).pixels
        kept += np.array_equal(model.synthesize(pixels, "happy"), pixels)
    assert kept == 1
    assert scores["fitted"] == 10 / 11
    paper = mlr.train(tmp_path, recipe="paper")
    assert evaluate(paper, tmp_path)["targets"]["happy"]["fitted"] is None


def test_without_the_extra_embeddings_are_unknown_and_a_note_says_so(data, model, monkeypatch):
    notes = []
    report = Report()
    monkeypatch.setattr(report, "note", notes.append)
    result = evaluate(model, data, report=report)
    json.dumps(result, allow_nan=False)
    for scores in result["targets"].values():
        assert scores["same_person"] is None
        assert scores["copy_input"]["same_person"] is None
    assert notes[1:] == [f"note: measuring the identity of outputs needs dlib: {install('align')}"]
    assert "was trained on these pairs" in notes[0]


def test_the_result_is_strict_json_even_for_a_perfect_copy(data, tmp_path):
    for path in (data / "neutral").iterdir():
        write_image(tmp_path / "neutral" / path.name, read_image(path).pixels)
        write_image(tmp_path / "happy" / path.name, read_image(path).pixels)
    result = evaluate(mlr.train(data, target=["happy"]), tmp_path)
    copied = json.loads(json.dumps(result, allow_nan=False))["targets"]["happy"]["copy_input"]
    within = {"mse": 0, "ssim": pytest.approx(1), "sharpness": 1}
    parts = {"face": within, "mouth": within, "same_person": None}
    assert copied == within | {"psnr": None} | parts
    assert result["targets"]["happy"]["interval"]["copy_input"]["psnr"] is None


def test_the_style_is_that_of_outputs_pictures_and_facts(data, model, tmp_path):
    given = evaluate(model, data, target=["happy"], style={"happy": 2}, report_dir=tmp_path)
    assert given["style"] == {"happy": 2}
    assert "style" not in evaluate(model, data, target=["happy"])
    errors = []
    for path in (data / "neutral").iterdir():
        x, t = (read_image(data / e / path.name).pixels for e in ("neutral", "happy"))
        errors.append(
            np.square(model.synthesize(x, style=2, target="happy") / 255 - t / 255).mean()
        )
    assert given["targets"]["happy"]["mse"] == pytest.approx(np.mean(errors), rel=1e-9)
    assert evaluate(model, data, target=["happy"], style=2)["targets"] == given["targets"]
    for name in ("happy", "overview"):
        assert describe_image(tmp_path / f"{name}.png")["style"] == {"happy": 2}
    facts = (tmp_path / "report.html").read_text()
    assert "<dt>style</dt><dd>happy 2</dd>" in facts
    assert f"<dt>data</dt><dd>{data}</dd>" in facts
    assert "<dt>model</dt>" not in facts


def test_the_report_names_the_file_of_the_model(data, model, tmp_path):
    save_model(model, tmp_path / "m <1>.npz")
    given = evaluate(tmp_path / "m <1>.npz", data, report_dir=tmp_path / "report")
    assert given == evaluate(model, data)
    assert "<dt>model</dt><dd>m &lt;1&gt;.npz</dd>" in (tmp_path / "report/report.html").read_text()


@pytest.mark.parametrize("style", [1, {"happy": 1}])
def test_a_model_of_the_recipe_paper_has_no_style(data, style):
    paper = mlr.train(data, target=["happy"], recipe="paper")
    with pytest.raises(OptionError, match="of the recipe paper has no style"):
        evaluate(paper, data, style=style)


def test_threads_change_nothing(data, model):
    assert evaluate(model, data, threads=1) == evaluate(model, data, threads=3)


def test_the_report_holds_a_sheet_of_each_expression_and_an_overview(data, model, tmp_path):
    evaluate(model, data, report_dir=tmp_path / "report")
    paths = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert paths == ["happy.png", "overview.png", "report.html", "sad.png"]
    sheet = read_image(tmp_path / "report" / "happy.png").pixels
    side = 192  # every picture of 16 px is enlarged 12 times
    assert sheet.shape[1] == 4 * (side + 8) + 8
    assert sheet.shape[0] > 9 * side  # three worst, three median, three best
    assert describe_image(tmp_path / "report" / "sad.png")["expression"] == "sad"
    assert describe_image(tmp_path / "report" / "overview.png")["expression"] == "happy, sad"
    with pytest.raises(OutputExistsError):
        evaluate(model, data, report_dir=tmp_path / "report")


def test_the_worst_pair_comes_first_on_the_sheet(data, model, tmp_path):
    errors = {
        path: np.square(
            model.synthesize(read_image(path).pixels, "happy") / 255
            - read_image(data / "happy" / path.name).pixels / 255
        ).mean()
        for path in (data / "neutral").iterdir()
    }
    worst = read_image(max(errors, key=errors.__getitem__)).pixels
    evaluate(model, data, report_dir=tmp_path)
    sheet = read_image(tmp_path / "happy.png").pixels
    top = 8 + 22 + 22  # gap, heads, caption
    assert np.array_equal(sheet[top : top + 192 : 12, 8 : 8 + 192 : 12], worst)


def test_a_pair_of_another_size_is_named_and_skipped(data, model, tmp_path):
    for expression in ("neutral", "happy"):
        for subject in range(3):
            size = SIZE if subject else SIZE + 1
            image = np.zeros((size, size, 3), np.uint8)
            write_image(tmp_path / expression / f"{subject}.png", image)
    with pytest.warns(MlrWarning, match=r"0\.png: is 17x17 px, but the model works on 16x16 px"):
        assert evaluate(model, tmp_path)["pairs"] == 2


def test_data_without_a_common_expression_is_refused(data, model):
    only_sad = mlr.train(data, target=["sad"])
    with pytest.raises(DataError, match="shows happy, but the model was trained for sad"):
        evaluate(only_sad, data, target=["happy"])
