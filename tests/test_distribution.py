"""The installed distribution: its name, its extras, and how shells and Python find it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlr._version import DISTRIBUTION, __version__, install
from mlr.cli import COMMANDS
from tests.conftest import run_process

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = [path for folder in ("mlr", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_hints_install_this_program_and_extras_that_exist():
    assert PROJECT["name"] == DISTRIBUTION == "masked-linear-regression"
    assert install("align") == "pip install 'masked-linear-regression[align]'"
    wanted = {
        extra
        for path in SOURCES
        for extra in re.findall(r"\binstall\(['\"](\w+)['\"]\)", path.read_text())
    }
    assert (
        {"align", "cluster", "deep", "plot", "video"}
        <= wanted
        <= {*PROJECT["optional-dependencies"]}
    )


def test_nothing_names_the_distribution_of_another_program():
    documents = [*ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for path in (*SOURCES, *documents, ROOT / "mlr" / "evaluation" / "report.html"):
        assert not re.search(r"\bmlr\[|pip install mlr\b", path.read_text()), path


def test_citation_is_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {__version__}" in lines
    assert "    doi: 10.6084/m9.figshare.5047666.v5" in lines


def test_usage_is_the_command_that_was_called():
    assert run_process("--help").out.startswith("Usage: python -m mlr [OPTIONS] COMMAND")
    assert run_process("train").err.startswith("Usage: python -m mlr train [OPTIONS]")
    assert "such as Miller: python -m mlr." in run_process("--help").out
    script = "from mlr.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "-h"], capture_output=True, text=True)
    assert done.stdout.startswith("Usage: mlr [OPTIONS] COMMAND")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_asks_the_program(run, shell):
    result = run("completion", shell)
    assert result.code == 0
    assert f"_MLR_COMPLETE={shell}_complete" in result.out
    assert "_mlr_completion" in result.out


def test_bash_completes_commands_and_options(run, tmp_path):
    bash = shutil.which("bash") or pytest.skip("needs bash")
    program = tmp_path / "mlr"
    program.write_text(f"#!{sys.executable}\nfrom mlr.__main__ import main\nmain()\n")
    program.chmod(0o755)
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash").out)

    def completed(*words):
        lines = [
            f"export PYTHONPATH={ROOT} PATH={tmp_path}:$PATH",
            f"source {script}",
            f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}",
            "_mlr_completion mlr",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
        done = subprocess.run([bash, "-c", "\n".join(lines)], capture_output=True, text=True)
        return done.stdout.split()

    assert completed("mlr", "sy") == ["synthesize"]
    assert completed("mlr", "''") == list(COMMANDS)
    assert completed("mlr", "align", "--fa") == ["--face"]
