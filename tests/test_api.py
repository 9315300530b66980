"""The public API."""

import subprocess
import sys

import pytest

import mlr


def test_importing_mlr_loads_nothing_heavy():
    script = (
        "import sys, mlr\n"
        "heavy = {'numpy', 'numba', 'imageio', 'PIL', 'click', 'tqdm'} & sys.modules.keys()\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_public_names_exist():
    assert set(mlr.__all__) <= set(dir(mlr))
    for name in mlr.__all__:
        assert getattr(mlr, name) is not None


def test_commands_are_functions_that_return_the_files_written(tmp_path):
    """One path and one expression do not need a list."""
    drawn = mlr.sample(tmp_path / "faces", pairs=4, size=16, target="happy")
    assert sorted(drawn) == sorted((tmp_path / "faces").rglob("*.png"))
    model = mlr.train(tmp_path / "faces", recipe="paper")
    faces = tmp_path / "faces" / "neutral"
    written = mlr.synthesize(model, faces, target="happy", format=".JPG")
    assert written == [tmp_path / "faces" / "neutral-happy" / f"00{n}.jpg" for n in range(4)]
    mixed = mlr.synthesize(model, str(faces), tmp_path / "mix", target={"happy": 0.5})
    assert [path.parent.name for path in mixed] == ["mix"] * 4
    eyes = tmp_path / "eyes.csv"
    eyes.write_text("file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n000.png,5,5,10,5\n")
    crops = mlr.align(faces / "000.png", tmp_path / "crops", size=20, eyes=eyes)
    assert crops == [tmp_path / "crops" / "000.png"]


@pytest.mark.parametrize("target", ["", {}, ["angry"]])
def test_targets_that_the_model_lacks_are_refused(faces, tmp_path, target):
    model = mlr.train(faces, recipe="paper")
    with pytest.raises(mlr.MlrError):
        mlr.synthesize(model, faces / "neutral", tmp_path / "out", target=target)
    assert not (tmp_path / "out").exists()
