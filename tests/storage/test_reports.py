"""reports.json: what is kept comes back, what is damaged or of somebody else is not taken for it, and it does not grow."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from pocketrec.errors import FolderError
from pocketrec.storage.lock import hold
from pocketrec.storage.reports import MOST, REPORTS, KeptReport, keep_report, read_reports, try_to_keep


@dataclass(frozen=True)
class Found:
    """A report."""

    share: float
    file: Path


def keep(folder: Path, key: str, share: float) -> None:
    keep_report(folder, key, ("evaluate", "--on", "test"), {"model": "ab"}, Found(share, Path("a/b")))


def test_what_is_kept_comes_back_and_the_newest_stays(tmp_path: Path) -> None:
    keep(tmp_path, "a", 0.25)
    keep(tmp_path, "b", 0.5)
    keep(tmp_path, "a", 0.75)
    kept = KeptReport(("evaluate", "--on", "test"), {"model": "ab"}, {"share": 0.75, "file": "a/b"})
    assert list(read_reports(tmp_path)) == ["b", "a"]
    assert read_reports(tmp_path)["a"] == kept
    for number in range(MOST):
        keep(tmp_path, str(number), 0.0)
    assert list(read_reports(tmp_path)) == [str(number) for number in range(MOST)]


def test_a_damaged_file_holds_nothing_and_is_replaced(tmp_path: Path) -> None:
    keep(tmp_path, "a", 0.25)
    path = tmp_path / REPORTS
    whole = path.read_text()
    for damaged in (whole.replace("0.25", "0.26"), whole[:-9], "[]", "", whole.replace('"format": 1', '"format": 2')):
        path.write_text(damaged)
        assert read_reports(tmp_path) == {}
    keep(tmp_path, "b", 0.5)
    assert list(read_reports(tmp_path)) == ["b"]


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / REPORTS).write_text(json.dumps(["mine"]))
    with pytest.raises(FolderError, match="is in the way"):
        keep(tmp_path, "a", 0.25)
    assert json.loads((tmp_path / REPORTS).read_text()) == ["mine"]


def test_a_folder_in_use_is_a_reason_not_an_error(tmp_path: Path) -> None:
    def work(folder: Path) -> str:
        return try_to_keep(folder, folder / "model", "a", ("evaluate",), {}, Found(0.25, Path("a")))

    said: list[str] = []
    with hold(tmp_path, "train"):
        other = threading.Thread(target=lambda: said.append(work(tmp_path)))
        other.start()
        other.join()
    assert "is in use by" in said[0]
    assert work(tmp_path) == ""
    assert list(read_reports(tmp_path / "model")) == ["a"]
