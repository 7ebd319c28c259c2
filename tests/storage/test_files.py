"""Files and folders appear whole or not at all, whatever happens while they are made."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.storage.files import (
    STAGED_SUFFIX,
    content_hash,
    leftovers,
    parents_of,
    remove_leftovers,
    staged_file,
    staged_folder,
    staged_name,
    write_text,
)


def tree(folder: Path) -> dict[str, str]:
    """Every file with its text, every folder with a slash."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else "/" for path in found}


def fill(staged: Path, text: str) -> None:
    """Write to a staged file, or a file into a staged folder."""
    (staged / "content" if staged.is_dir() else staged).write_text(text)


def fail(stage: AbstractContextManager[Path], end: BaseException) -> None:
    """Come half way."""
    with stage as staged:
        fill(staged, "half")
        raise end


Stage = Callable[[Path], AbstractContextManager[Path]]
both = pytest.mark.parametrize("stage", [staged_file, staged_folder])
ends = pytest.mark.parametrize("end", [ValueError("bad"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()], ids=repr)


@both
def test_what_is_staged_gets_its_name_at_the_end(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "a" / "b" / "result.x"
    with stage(path) as staged:
        assert staged == path.with_name("result.x.incomplete")
        fill(staged, "new")
        assert not path.exists()
    assert [name for name in tree(tmp_path) if STAGED_SUFFIX in name] == []
    assert (path.read_text() if path.is_file() else (path / "content").read_text()) == "new"


@both
@ends
def test_an_exception_leaves_nothing(tmp_path: Path, stage: Stage, end: BaseException) -> None:
    """The exception itself goes on, and the folders that were made for the result are gone too."""
    (tmp_path / "a").mkdir()
    with pytest.raises(type(end)) as raised:
        fail(stage(tmp_path / "a" / "b" / "result"), end)
    assert raised.value is end
    assert tree(tmp_path) == {"a": "/"}


@both
@ends
def test_an_exception_leaves_the_old_one_as_it_was(tmp_path: Path, stage: Stage, end: BaseException) -> None:
    path = tmp_path / "result"
    with stage(path) as staged:
        fill(staged, "old")
    before = tree(tmp_path)
    with pytest.raises(type(end)):
        fail(stage(path), end)
    assert tree(tmp_path) == before


@both
def test_the_old_one_is_there_until_the_new_one_is_whole(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "result"
    content = path / "content" if stage is staged_folder else path
    for text in ("first", "second, longer", "3rd"):
        before = tree(path) if path.is_dir() else content.read_text() if path.exists() else None
        with stage(path) as staged:
            fill(staged, text)
            assert (tree(path) if path.is_dir() else content.read_text() if path.exists() else None) == before
        assert content.read_text() == text


@both
def test_a_leftover_of_a_killed_run_is_not_part_of_the_next(tmp_path: Path, stage: Stage) -> None:
    path = tmp_path / "result"
    if stage is staged_folder:
        staged_name(path).mkdir()
        (staged_name(path) / "old").write_text("from before")
    else:
        staged_name(path).write_text("from before, and longer than the new text")
    with stage(path) as staged:
        fill(staged, "new")
    assert tree(tmp_path) in ({"result": "new"}, {"result": "/", "result/content": "new"})


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a library wrote into it, which flushes nothing: or the power goes, and whole names lead to empty files."""
    flushed: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.fstat(descriptor).st_ino))
    with staged_folder(tmp_path / "result") as staged:
        (staged / "inner").mkdir()
        (staged / "inner" / "content").write_text("new")
        made = {path.stat().st_ino for path in (staged, *staged.rglob("*"))}
    assert len(made) == 3
    assert made <= flushed
    assert tmp_path.stat().st_ino in flushed


def test_a_signal_as_soon_as_the_folder_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def make_and_stop(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        make(path, mode, parents, exist_ok)
        if path.name.endswith(STAGED_SUFFIX):
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", make_and_stop)
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "deep" / "result"):
        pass
    assert tree(tmp_path) == {}


def test_a_file_that_comes_after_the_removal_is_removed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a thread of Polars that has not heard of the error yet."""
    remove, removals = shutil.rmtree, 0

    def remove_and_write(folder: Path, *, ignore_errors: bool) -> None:
        nonlocal removals
        remove(folder, ignore_errors=ignore_errors)
        removals += 1
        if removals == 1:
            folder.mkdir()
            (folder / "late").touch()

    def stop() -> None:
        with staged_folder(tmp_path / "a"):
            monkeypatch.setattr(shutil, "rmtree", remove_and_write)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        stop()
    assert removals == 2
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_keeps_nothing_of_the_old(tmp_path: Path) -> None:
    for names in (("a", "b"), ("c",), ()):
        with staged_folder(tmp_path / "result") as staged:
            for name in names:
                (staged / name).write_text(name)
        assert tree(tmp_path / "result") == {name: name for name in names}


def test_a_file_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged_file(tmp_path / "a" / "result"):
        pass
    assert tree(tmp_path) == {}


def test_parents_are_made_and_stay(tmp_path: Path) -> None:
    for _ in range(2):
        with parents_of(tmp_path / "a" / "b" / "file"):
            assert (tmp_path / "a" / "b").is_dir()
    assert tree(tmp_path) == {"a": "/", "a/b": "/"}


@ends
def test_parents_of_a_failure_go_unless_they_were_there(tmp_path: Path, end: BaseException) -> None:
    (tmp_path / "old").mkdir()
    path = tmp_path / "old" / "new" / "newer" / "file"
    with pytest.raises(type(end)), parents_of(path):
        raise end
    assert tree(tmp_path) == {"old": "/"}
    with pytest.raises(type(end)), parents_of(path), staged_file(path.parents[1] / "other"):
        raise end
    assert tree(tmp_path) == {"old": "/"}


def test_parents_of_a_failure_stay_where_someone_else_uses_them(tmp_path: Path) -> None:
    def fail_beside_another() -> None:
        with parents_of(tmp_path / "new" / "newer" / "file"):
            (tmp_path / "new" / "other").write_text("of someone else")
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail_beside_another()
    assert tree(tmp_path) == {"new": "/", "new/other": "of someone else"}


def test_text_is_written_as_utf_8_without_translation(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "text", "caf\u00e9\n\u0663\n")
    assert (tmp_path / "a" / "text").read_bytes() == "caf\u00e9\n\u0663\n".encode()


OURS = re.compile("file|folder|x")


def test_leftovers_are_those_of_our_own_names_and_nothing_else(tmp_path: Path) -> None:
    keep = {"whole": "1", "incomplete": "2", "x.incomplete.txt": "3", "notes.incomplete": "4", "theirs.incomplete": "/"}
    for name, text in keep.items():
        (tmp_path / name).mkdir() if text == "/" else (tmp_path / name).write_text(text)
    (tmp_path / "folder.incomplete").mkdir()
    (tmp_path / "folder.incomplete" / "content").write_text("half")
    (tmp_path / "file.incomplete").write_text("half")
    (tmp_path / "x.incomplete").symlink_to(tmp_path / "theirs.incomplete")
    assert {path.name for path in leftovers(tmp_path, OURS)} == {"folder.incomplete", "file.incomplete", "x.incomplete"}
    remove_leftovers(tmp_path, OURS)
    assert tree(tmp_path) == keep


def test_leftovers_of_a_folder_that_is_not_there_or_a_link(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "nothing", OURS)
    assert tree(tmp_path) == {}
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.incomplete").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    remove_leftovers(tmp_path / "link", OURS)
    assert (tmp_path / "real" / "x.incomplete").exists()


KILLED = """
import sys
from pathlib import Path
from pocketrec.storage.files import staged_file, staged_folder
root = Path(sys.argv[1])
with staged_folder(root / "folder") as folder, staged_file(root / "file") as file:
    (folder / "content").write_text("half")
    file.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_only_what_can_be_recognised(tmp_path: Path) -> None:
    """SIGKILL gives nobody a chance to tidy up."""
    write_text(tmp_path / "file", "old")
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert set(tree(tmp_path)) == {"file", "file.incomplete", "folder.incomplete", "folder.incomplete/content"}
    remove_leftovers(tmp_path, OURS)
    assert tree(tmp_path) == {"file": "old"}


@given(content=st.binary(max_size=300), block_bytes=st.integers(1, 400))
def test_the_hash_of_a_file_is_that_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, block_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert content_hash(path, block_bytes=block_bytes) == xxhash.xxh3_128(content).hexdigest()
    assert content_hash(path) == xxhash.xxh3_128(content).hexdigest()


def test_a_file_staged_inside_another_is_its_own_affair(tmp_path: Path) -> None:
    """The four txt files of the split are staged at once; one failure takes all."""
    with (
        contextlib.suppress(ValueError),
        staged_file(tmp_path / "a" / "1") as outer,
        staged_file(tmp_path / "a" / "2") as inner,
    ):
        outer.write_text("1")
        inner.write_text("2")
        raise ValueError
    assert tree(tmp_path) == {}
