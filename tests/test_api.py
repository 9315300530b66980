"""The public names, and the Python code in README.md."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import mlr
from mlr.samples.folder import write_samples

README = Path(__file__).parent.parent / "README.md"


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


def test_readme_code_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    write_samples(tmp_path / "faces", pairs=4, size=16, target=["happy"])
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    known = {"images": images, "X": images, "T": images[::-1], "X_new": images}
    for block in blocks:
        exec(block, known)
    assert known["happy"].shape == images.shape
    assert known["Y"].shape == images.shape
    assert (tmp_path / "model.npz").is_file()
