"""Folders that a process is given with --dir."""

import pytest

from livehook.exits import Failed
from livehook.folders import writable


def test_a_folder_is_made(tmp_path):
    """With those above it, and nothing is left in it."""
    for _ in range(2):
        writable(tmp_path / "a" / "b")

    assert [] == [*(tmp_path / "a" / "b").iterdir()]


def test_what_cannot_be_a_folder_is_refused_at_start(tmp_path):
    """With the flag that helps."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed) as refused:
        writable(tmp_path / "file" / "a")

    assert f"cannot write to {tmp_path}/file/a (Not a directory): choose another folder with --dir" == str(refused.value)
