"""Examples worked by hand, so that the oracle the other tests trust is itself pinned down."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oracle import Batches, batches, item_index, item_support, npy_bytes, prepare, time_text, txt_bytes

# One click a line: session, time, item. A hold-out of 10 s and a support of 2 keep it small.
#
# step 1 drops session 9 (one click).
# step 2 drops item 77 (once), which leaves session 8 with one click; item 10 had its third click in session 9.
# step 3 drops session 8, although that leaves item 30 with one click less: one pass, not iterated.
# step 4: tmax = 40.5 (session 5), cut 30.5. Ends: session 3 20.0, 1 5.0, 2 30.5 (not before the cut), 5 40.5.
#         train_full = 3, 1; late = 2, 5.
# step 5: item 40 occurs only late, so session 5 is left with one click (10) and goes; session 2 stays.
# step 6: tmax = 20.0 (session 3), cut 10.0: train_tr = 1; late = 3, whose item 30 is unknown to 1: 10, 20 stay.
LOG = """\
3,1970-01-01T00:00:12.000Z,10,0
1,1970-01-01T00:00:05.000Z,20,S
1,1970-01-01T00:00:01.250Z,10,0
9,1970-01-01T00:00:41.000Z,10,0
2,1970-01-01T00:00:30.500Z,10,0
3,1970-01-01T00:00:20.000Z,30,0
5,1970-01-01T00:00:40.500Z,40,0
2,1970-01-01T00:00:29.001Z,20,0
8,1970-01-01T00:00:02.000Z,77,0
8,1970-01-01T00:00:03.000Z,30,0
5,1970-01-01T00:00:39.000Z,10,0
3,1970-01-01T00:00:12.000Z,20,0
5,1970-01-01T00:00:38.000Z,40,0
"""

COUNTS = """\
Full train set
\tEvents: 5
\tSessions: 2
\tItems: 3
Test set
\tEvents: 2
\tSessions: 1
\tItems: 2
Train set
\tEvents: 2
\tSessions: 1
\tItems: 2
Validation set
\tEvents: 2
\tSessions: 1
\tItems: 2
"""


def log_file(folder: Path, text: str) -> Path:
    path = folder / "clicks.dat"
    path.write_text(text)
    return path


def test_a_small_log_is_split_as_by_hand(tmp_path: Path) -> None:
    prepared = prepare(log_file(tmp_path, LOG), holdout_seconds=10, min_item_support=2)
    head = b"SessionId\tItemId\tTime\n"
    assert prepared.txt == {
        "train_full": head + b"3\t10\t12.0\n1\t20\t5.0\n1\t10\t1.25\n3\t30\t20.0\n3\t20\t12.0\n",
        "test": head + b"2\t10\t30.5\n2\t20\t29.001\n",
        "train_tr": head + b"1\t20\t5.0\n1\t10\t1.25\n",
        "train_valid": head + b"3\t10\t12.0\n3\t20\t12.0\n",
    }
    assert prepared.counts == COUNTS


def test_items_are_numbered_by_first_appearance_in_the_file(tmp_path: Path) -> None:
    prepared = prepare(log_file(tmp_path, LOG), holdout_seconds=10, min_item_support=2)
    assert item_index(prepared.train_tr) == {20: 0, 10: 1}  # in session 1 item 10 comes first in time, 20 in the file
    assert item_support(prepared.train_full) == {10: 2, 20: 2, 30: 1}


def test_a_holdout_that_leaves_no_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no click to train on"):
        prepare(log_file(tmp_path, LOG), min_item_support=2)
    with pytest.raises(ValueError, match="no click is left"):
        prepare(log_file(tmp_path, LOG), min_item_support=100)


def test_an_empty_test_set_is_a_file_of_one_line(tmp_path: Path) -> None:
    late = [f"2,1970-01-01T00:00:50.{k}00Z,{item},0\n" for k, item in enumerate((70, 71, 70, 71))]
    prepared = prepare(log_file(tmp_path, LOG + "".join(late)), holdout_seconds=1, min_item_support=2)
    # Session 2 alone ends late, with two known items; without them it is gone.
    assert prepared.txt["test"].count(b"\n") == 3
    other = [line for line in LOG.splitlines(keepends=True) if not line.startswith("2,")]
    alone = [line.replace("2,", "6,", 1) for line in late]
    prepared = prepare(log_file(tmp_path, "".join(other + alone)), holdout_seconds=1, min_item_support=2)
    assert prepared.txt["test"] == b"SessionId\tItemId\tTime\n"
    assert "Test set\n\tEvents: 0\n\tSessions: 0\n\tItems: 0\n" in prepared.counts


def test_ids_up_to_the_largest_int64_stay_exact(tmp_path: Path) -> None:
    top = 2**63 - 1
    rows = [(1, 0, top - 1), (1, 1, top), (top, 20, top), (top, 21, top - 1), (top - 1, 40, top), (top - 1, 41, top)]
    text = "".join(f"{session},2014-04-01T00:00:{second:02}.000Z,{item},0\n" for session, second, item in rows)
    prepared = prepare(log_file(tmp_path, text), holdout_seconds=10, min_item_support=2)
    assert prepared.txt["test"].splitlines()[1:] == [f"{top - 1}\t{top}\t13963104{k}.0".encode() for k in (40, 41)]
    assert item_index(prepared.train_tr) == {top - 1: 0, top: 1}


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1396860669277, "1396860669.277"),
        (1396666431360, "1396666431.36"),
        (1396860669000, "1396860669.0"),
        (1412028420771, "1412028420.771"),  # the one Polars prints with 17 digits
        (0, "0.0"),
        (1, "0.001"),
        (-1, "-0.001"),
        (-62135596800000, "-62135596800.0"),  # year 1
        (253402300799999, "253402300799.999"),  # year 9999
    ],
)
def test_times_are_the_shortest_floats(ms: int, text: str) -> None:
    assert time_text(ms) == text
    assert float(text) == ms / 1000


def frame(*sessions: tuple[int, ...]) -> pd.DataFrame:
    """Sessions 1, 2, ... of these items, a click a second."""
    rows = [(number, item, k) for number, items in enumerate(sessions, 1) for k, item in enumerate(items)]
    return pd.DataFrame(rows, columns=["SessionId", "ItemId", "TimeMs"])


CODES = {item: item for item in range(100)}

# Four sessions in two lanes:
#   lane 0: 10 11 12 13 | 40 41
#   lane 1: 20 21 | 30 31 32
# block 1: fewest left is 2, so one step: (10 20) -> (11 21). Lane 1 is at its end and takes 30 31 32.
# block 2: lane 0 has 11 12 13 left, lane 1 30 31 32: two steps. Both end; lane 0 takes 40 41.
#          Lane 1 needs a session and there is none: `drop` stops here and 40 41 is lost; `pad` leaves lane 1 idle.
# block 3 (pad): (40 -) -> (41 -).
FOUR = frame((10, 11, 12, 13), (20, 21), (30, 31, 32), (40, 41))


def parts(made: Batches) -> tuple[list[list[int]], list[list[int]], list[list[int]], int]:
    return made.feats.tolist(), made.targets.tolist(), made.masks.tolist(), made.dropped


def test_blocks_as_by_hand_with_each_reset_once() -> None:
    feats, targets = [[10, 20], [11, 30], [12, 31]], [[11, 21], [12, 31], [13, 32]]
    assert parts(batches(FOUR, CODES, 2)) == (feats, targets, [[1, 1], [1, 0], [1, 1]], 1)


def test_the_original_repeats_a_reset_on_each_step_of_the_block() -> None:
    assert batches(FOUR, CODES, 2, resets="repeated").masks.tolist() == [[1, 1], [1, 0], [1, 0]]


@pytest.mark.parametrize(("resets", "third"), [("once", [1, 1]), ("repeated", [1, 0])])
def test_padding_drops_nothing(resets: str, third: list[int]) -> None:
    made = batches(FOUR, CODES, 2, resets=resets, tail="pad")  # type: ignore[arg-type]
    assert parts(made) == (
        [[10, 20], [11, 30], [12, 31], [40, 0]],
        [[11, 21], [12, 31], [13, 32], [41, -1]],
        [[1, 1], [1, 0], third, [0, 0]],
        0,
    )


def test_a_lane_that_ends_ends_the_block_even_with_nothing_to_follow() -> None:
    # Lanes: 1 2 3 4 | - and 5 6 | 7 8 9 and a third lane with 10 11, idle after its only step.
    made = batches(frame((1, 2, 3, 4), (5, 6), (10, 11), (7, 8, 9)), CODES, 3, resets="repeated", tail="pad")
    assert made.feats.tolist() == [[1, 5, 10], [2, 7, 0], [3, 8, 0]]
    assert made.masks.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    # Lane 1 goes idle at the first step's end: that ends a block, so lane 0's reset is not repeated after it.
    made = batches(frame((1, 2, 3), (5, 6, 7, 8), (10, 11, 12, 13, 14)), CODES, 2, resets="repeated", tail="pad")
    assert made.feats.tolist() == [[1, 5], [2, 6], [10, 7], [11, 0], [12, 0], [13, 0]]
    assert made.masks.tolist() == [[1, 1], [1, 1], [0, 1], [1, 0], [1, 0], [1, 0]]


def test_fewer_sessions_than_lanes() -> None:
    with pytest.raises(ValueError, match="1 sessions do not fill 3 lanes"):
        batches(frame((1, 2, 3)), CODES, 3)
    made = batches(frame((1, 2, 3)), CODES, 3, tail="pad")
    assert parts(made) == ([[1, 0, 0], [2, 0, 0]], [[2, -1, -1], [3, -1, -1]], [[1, 0, 0], [1, 0, 0]], 0)


def test_no_sessions_at_all_pad_to_no_steps() -> None:
    made = batches(frame(), CODES, 4, tail="pad")
    assert made.masks.dtype == np.int32
    assert (made.feats.shape, made.dropped) == ((0, 4), 0)


def test_as_many_sessions_as_lanes_stop_at_the_first_end() -> None:
    made = batches(frame((1, 2, 3, 4), (5, 6)), CODES, 2)
    assert parts(made) == ([[1, 5]], [[2, 6]], [[1, 1]], 2)


def test_sessions_ascend_by_id_and_clicks_by_time_with_ties_in_file_order() -> None:
    rows = [(7, 3, 5), (2, 8, 1), (7, 1, 4), (7, 2, 5), (2, 9, 0), (7, 4, 4)]
    shuffled = pd.DataFrame(rows, columns=["SessionId", "ItemId", "TimeMs"])
    assert batches(shuffled, CODES, 1, tail="pad").feats.ravel().tolist() == [9, 1, 4, 3]  # 2: 9 8; 7: 1 4 3 2


def test_files_are_what_numpy_writes(tmp_path: Path) -> None:
    made = batches(FOUR, CODES, 2)
    assert txt_bytes(made.feats) == b"10,20\n11,30\n12,31\n"
    np.savetxt(tmp_path / "feats.txt", made.feats, fmt="%d", delimiter=",")
    assert (tmp_path / "feats.txt").read_bytes() == txt_bytes(made.feats)
    assert np.array_equal(np.load(io.BytesIO(npy_bytes(made.feats))), made.feats)
    assert npy_bytes(made.feats)[:8] == b"\x93NUMPY\x01\x00"
