from pathlib import Path

import pytest

from hardware_specs.records.errors import InputError
from reports.files import check_writable, write_text


def test_text_replaces_what_was_there_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_text(path, "old")
    write_text(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    write_text(path, "old")

    def full_disk(self: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_and_a_folder_as_target_are_refused_early(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder that exists"):
        check_writable(tmp_path / "absent" / "out.json")
    with pytest.raises(InputError, match="not a folder"):
        check_writable(tmp_path)
