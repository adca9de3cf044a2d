"""The rules of tools/setup, with Pythons that are small scripts: which one is taken, what a failure says, what is done again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["cat", "cksum", "cp", "dirname", "head", "ln", "mkdir", "mv", "readlink", "rm", "sed", "sh", "sleep", "tail"]

BROKEN_SHIM = "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"

# Answers the three probes of tools/setup. Its `-m venv` makes a .venv whose python logs its installs, and fails while `offline` is there.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *version_info\\[*) echo {version} ;;
    *'version_info <'*) exit {old} ;;
    *ensurepip*) exit {without_venv} ;;
    '-m venv .venv')
        mkdir -p .venv/bin
        cp fake-venv-python .venv/bin/python ;;
esac
"""
FAKE_VENV_PYTHON = """#!/bin/sh
case "$*" in *pip*)
    echo "$*" >> installs
    if [ -e offline ]; then echo 'ERROR: no route to host'; exit 1; fi
esac
"""


class Checkout:
    """A folder with tools/setup and a PATH that holds only what a test puts there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)
        (root / "tools").mkdir()
        shutil.copy(ROOT / "tools/setup", root / "tools/setup")
        (root / "pyproject.toml").write_text("[project]\n")
        self.script(root / "fake-venv-python", FAKE_VENV_PYTHON)

    def script(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name: str, *, version: str = "3.11", old: bool = False, without_venv: bool = False) -> None:
        self.script(self.bin / name, FAKE_PYTHON.format(version=version, old=int(old), without_venv=int(without_venv)))

    def run(self, level: str = "dev") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "sh", self.root / "tools/setup", level],
            env={"PATH": str(self.bin)}, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    @property
    def installs(self) -> list[str]:
        """The extras of each install so far."""
        log = self.root / "installs"
        return [line.split(".[")[1].rstrip("]") for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_newest_python_is_taken(checkout):
    """python3.14 goes before python3.11, and both before python3."""
    checkout.python("python3.14", version="3.14")
    checkout.python("python3.11", version="3.11")
    checkout.python("python3", version="3.12")
    assert "making .venv with Python 3.14 " in checkout.run().stderr


def test_a_python_that_does_not_run_or_does_not_do_is_passed_over(checkout):
    """A shim with nothing behind it, and a Python without venv, are no reason to stop while another one will do."""
    checkout.script(checkout.bin / "python3.14", BROKEN_SHIM)
    checkout.python("python3.13", version="3.13", without_venv=True)
    checkout.python("python3", version="3.12")
    done = checkout.run()
    assert (0, ["embedded"]) == (done.returncode, checkout.installs)
    assert "making .venv with Python 3.12 " in done.stderr


def test_no_python_is_one_line(checkout):
    """Without a Python, the one line says which is needed."""
    done = checkout.run()
    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert done.stderr.startswith("Python 3.11 or newer is needed and none was found: install it")


def test_an_old_python_is_named_with_its_version(checkout):
    """A Python that is too old is not hidden behind "none was found"."""
    checkout.python("python3", version="3.9", old=True)
    done = checkout.run()
    assert "Python 3.11 or newer is needed and python3 is 3.9: install a newer one and run make again\n" == done.stderr


def test_a_missing_venv_names_the_package(checkout):
    """Debian's Python comes without ensurepip; the line names the package that brings it."""
    checkout.python("python3.11", without_venv=True)
    done = checkout.run()
    assert "python3.11 has no venv: install it (on Debian and Ubuntu: apt install python3.11-venv) and run make again\n" == done.stderr


def test_what_is_up_to_date_is_left_alone(checkout):
    """A second run installs nothing, and needs no other Python than the one in .venv."""
    checkout.python("python3")
    assert 0 == checkout.run().returncode
    (checkout.bin / "python3").unlink()
    again = checkout.run()
    assert (0, "", ["embedded"]) == (again.returncode, again.stderr, checkout.installs)


def test_the_tests_add_to_what_dev_installed(checkout):
    """After `make dev`, `make test` keeps .venv and adds its tools; after that `make dev` has nothing to do."""
    checkout.python("python3")
    for level in ("dev", "test", "dev"):
        assert 0 == checkout.run(level).returncode
    assert ["embedded", "embedded,dev"] == checkout.installs


def test_a_changed_pyproject_makes_venv_again(checkout):
    """A .venv made for another pyproject.toml is thrown away, whatever was put into it."""
    checkout.python("python3")
    checkout.run()
    (checkout.root / ".venv/old").touch()
    (checkout.root / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    checkout.run()
    assert (False, 2) == ((checkout.root / ".venv/old").exists(), len(checkout.installs))


def test_a_python_that_went_away_makes_venv_again(checkout):
    """An upgrade of the system may take the Python away that .venv points to."""
    checkout.python("python3")
    checkout.run()
    (checkout.root / ".venv/bin/python").unlink()
    assert (0, 2) == (checkout.run().returncode, len(checkout.installs))


@pytest.mark.parametrize("before", ["dev", None])
def test_a_failed_install_is_said_in_a_line_and_not_taken_for_done(checkout, before):
    """The line holds pip's reason; the next run installs from the start, whatever was there before."""
    checkout.python("python3")
    if before:
        checkout.run(before)
    (checkout.root / "offline").touch()
    failed = checkout.run("test")
    (checkout.root / "offline").unlink()
    assert 1 == failed.returncode
    assert failed.stderr.splitlines()[-1].startswith("installing failed: no route to host; check the network")
    installs = len(checkout.installs)
    assert (0, installs + 1) == (checkout.run("dev").returncode, len(checkout.installs))


def test_the_lock_of_a_killed_make_is_taken_over(checkout):
    """A make that was killed cannot remove its lock; its process is gone, so nobody waits for it."""
    checkout.python("python3")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    (checkout.root / ".venv.lock").symlink_to(gone.stdout.strip())
    assert (0, False) == (checkout.run().returncode, os.path.lexists(checkout.root / ".venv.lock"))
