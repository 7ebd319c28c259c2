"""The bytes on disk are numpy's, however they were cut into blocks, and a file is there whole or not at all."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.errors import DatasetError
from pocketrec.schema import Int32
from pocketrec.storage.formats import FORMATS, LARGEST, Npy, Txt
from pocketrec.storage.npy import open_array
from pocketrec.storage.writer import Writer

INT32 = np.iinfo(np.int32)
EDGES = sorted({sign * (10**power + more) for power in range(10) for more in (-1, 0, 1) for sign in (-1, 1)})
VALUES = {
    "digits": st.integers(0, 9),
    "ten or less": st.integers(0, 10),
    "small": st.integers(-12, 120),
    "with a word": st.integers(-1, 70_000) | st.just(-1),
    "edges of a table": st.sampled_from([-2, *(2**bits + more for bits in (0, 1, 4, 16, 20) for more in (-2, -1, 0))]),
    "edges of a length": st.sampled_from([INT32.min, INT32.max, *EDGES]),
    "any": st.integers(int(INT32.min), int(INT32.max)),
}


def numpys_bytes(array: Int32, form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "npy":
        np.save(buffer, array)
    else:
        np.savetxt(buffer, array, fmt="%d", delimiter=",")
    return buffer.getvalue()


@st.composite
def pieces(draw: st.DrawFn) -> tuple[int, list[Int32]]:
    """Blocks of one width, some without rows, each of its own kind of numbers."""
    width = draw(st.integers(1, 7))
    blocks = []
    for _ in range(draw(st.integers(0, 5))):
        values = VALUES[draw(st.sampled_from(sorted(VALUES)))]
        rows = draw(st.integers(0, 6))
        numbers = draw(st.lists(values, min_size=rows * width, max_size=rows * width))
        blocks.append(np.array(numbers, np.int32).reshape(rows, width))
    return width, blocks


@pytest.mark.parametrize("form", ["npy", "txt"])
@settings(max_examples=150)
@given(given_pieces=pieces())
def test_pieces_make_the_file_that_numpy_makes_of_the_whole(form: str, given_pieces: tuple[int, list[Int32]]) -> None:
    width, blocks = given_pieces
    whole = np.concatenate([np.empty((0, width), np.int32), *blocks])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array"
        with Writer(path, FORMATS[form](width)) as writer:
            for block in blocks:
                writer.write(block)
            written = writer.commit()
        content = path.read_bytes()
    assert content == numpys_bytes(whole, form)
    assert (written.bytes, written.shape, written.dtype) == (len(content), whole.shape, "int32")
    assert written.xxh3 == xxhash.xxh3_128(content).hexdigest()


@pytest.mark.parametrize("shape", [(0, 1), (0, 512), (1, 1), (9, 3), (10, 512), (99_999, 1), (100_000, 1), (1000, 700)])
def test_npy_is_numpys_whatever_the_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    array = np.random.default_rng(1).integers(INT32.min, INT32.max, shape, np.int32)
    with Writer(tmp_path / "a.npy", Npy(shape[1])) as writer:
        for part in (array[: shape[0] // 3], array[shape[0] // 3 :]):
            if len(part):  # see test_a_block_without_rows
                writer.write(part)
        writer.commit()
    assert (tmp_path / "a.npy").read_bytes() == numpys_bytes(array, "npy")
    assert np.array_equal(open_array(tmp_path / "a.npy"), array)


@pytest.mark.parametrize(
    "form",
    [
        "txt",
        "npy",
    ],
)
def test_a_block_without_rows(tmp_path: Path, form: str) -> None:
    with Writer(tmp_path / "a", FORMATS[form](3)) as writer:
        writer.write(np.empty((0, 3), np.int32))
        writer.commit()
    assert (tmp_path / "a").read_bytes() == numpys_bytes(np.empty((0, 3), np.int32), form)


@pytest.mark.parametrize("form", ["npy", "txt"])
def test_blocks_that_are_views_are_written_as_they_look(tmp_path: Path, form: str) -> None:
    base = np.random.default_rng(2).integers(-50, 50_000, (40, 30), np.int32)
    for number, view in enumerate((base.T, base[::2, ::3], base[::-1], base % 10, (base % 10).T)):
        with Writer(tmp_path / str(number), FORMATS[form](view.shape[1])) as writer:
            writer.write(view)
            writer.commit()
        assert (tmp_path / str(number)).read_bytes() == numpys_bytes(view.copy(), form), number


@pytest.mark.parametrize("largest", [60_000, LARGEST, LARGEST + 1])
def test_txt_of_more_numbers_than_one_batch_of_the_encoder(tmp_path: Path, largest: int) -> None:
    array = np.random.default_rng(3).integers(-1, largest, (700, 211), np.int32, endpoint=True)
    array[350, 100] = largest
    with Writer(tmp_path / "a.txt", Txt(211)) as writer:
        writer.write(array)
        writer.commit()
    assert (tmp_path / "a.txt").read_bytes() == numpys_bytes(array, "txt")


@pytest.mark.parametrize("old", [None, b"what was there"])
@pytest.mark.parametrize("form", ["npy", "txt"])
@pytest.mark.parametrize("end", ["no commit", "exception"])
def test_nothing_is_published_without_a_commit(tmp_path: Path, old: bytes | None, form: str, end: str) -> None:
    path = tmp_path / "array"
    if old is not None:
        path.write_bytes(old)

    def check() -> None:
        assert (path.read_bytes() if path.exists() else None) == old

    def use(writer: Writer) -> None:
        writer.write(np.arange(6, dtype=np.int32).reshape(2, 3))
        check()
        if end == "exception":
            raise ZeroDivisionError

    if end == "exception":
        with pytest.raises(ZeroDivisionError), Writer(path, FORMATS[form](3)) as writer:
            use(writer)
    else:
        with Writer(path, FORMATS[form](3)) as writer:
            use(writer)
    check()
    assert list(tmp_path.iterdir()) == ([] if old is None else [path])


def test_a_commit_replaces_the_old_file_only_then(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")
    with Writer(path, Npy(2)) as writer:
        writer.write(np.ones((3, 2), np.int32))
        assert path.read_bytes() == b"old"
        writer.commit()
    assert list(tmp_path.iterdir()) == [path]
    assert open_array(path).tolist() == [[1, 1]] * 3


def test_bytes_that_are_encoded_already(tmp_path: Path) -> None:
    path = tmp_path / "text"
    with Writer(path) as writer:
        writer.write_bytes(b"a\nb\n", 2)
        writer.write_bytes(memoryview(b""), 0)
        writer.write_bytes(memoryview(b"c\n"), 1)
        written = writer.commit()
    assert path.read_bytes() == b"a\nb\nc\n"
    assert (written.shape, written.xxh3) == ((3,), xxhash.xxh3_128(b"a\nb\nc\n").hexdigest())


def saved(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    np.save(path, array)
    return path


def test_an_opened_array_is_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    array = open_array(saved(tmp_path / "a.npy", np.arange(6, dtype=np.int32).reshape(2, 3)))
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


@pytest.mark.parametrize("left", [0, 5, 60, 128, 140])
def test_a_cut_array(tmp_path: Path, left: int) -> None:
    path = saved(tmp_path / "feats.npy", np.zeros((4, 4), np.int32))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DatasetError, match=r"feats\.npy cannot be read") as error:
        open_array(path)
    assert error.value.do == "pocketrec batches"


def test_a_missing_array(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.npy is missing"):
        open_array(tmp_path / "gone.npy")


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickled_array_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([[Trap(tmp_path / "sprung")]], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"objects\.npy cannot be read"):
        open_array(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("dtype", ["int64", "float32", "uint32", ">i4"])
def test_an_array_of_another_type(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DatasetError, match=r"a\.npy holds .*\(2, 2\)"):
        open_array(saved(tmp_path / "a.npy", np.zeros((2, 2), dtype)))


def test_an_array_of_another_rank(tmp_path: Path) -> None:
    for number, shape in enumerate([(4,), (2, 2, 2)]):
        with pytest.raises(DatasetError, match="shape"):
            open_array(saved(tmp_path / f"{number}.npy", np.zeros(shape, np.int32)))


def test_a_zip_of_arrays_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.zeros((2, 2), np.int32))
    with pytest.raises(DatasetError):
        open_array(tmp_path / "a.npy")
