"""Session-parallel mini-batches on a cluster: scan, carry and fill of `sessions.session_parallel`.

The driver scans the lengths of sessions, part after part, and keeps the state of the lanes before each part, 24 bytes a
lane. Of a large set, workers scan all parts at once from guesses, and the driver only those where the guess was wrong.
Workers find what the lanes carry from a part into later ones; Spark brings it to where it is needed; and each part is
filled alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pocketrec.schema import Int32, Int64
from pocketrec.sessions.batches import ARRAYS, BatchCounts, check_sessions
from pocketrec.sessions.options import BatchSettings
from pocketrec.sessions.session_parallel import Before, Guess, LaneState, Runs, fill, settle
from pocketrec.spark.session import explained
from pocketrec.spark.store import Store
from pocketrec.spark.tables import Shipped, batch_of, rows_in_order, ship
from pocketrec.storage.formats import FORMATS
from pocketrec.storage.layout import SPLITS
from pocketrec.storage.manifest import Record

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LAID = "part int, of string, at long, array string, form string, steps long, content binary"
HELD = "of string, part int, at long, order binary, lengths binary, items binary"
"""A part's sessions have lengths and items; what lanes carry into it has the order of its runs besides."""
GUESSED = "part int, place long, free binary, after binary"
"""Of each part where its items begin, the guess of what is free before it, and the state which that came to after it."""
ONE_SCAN = 50_000_000
"""Sessions of a set; fewer are scanned in order. Guesses take jobs more and twice the work: they pay with many cores only.

On two busy cores 28 million sessions take 27 s in order with 32 lanes and 12 s with 512, a million more 0.5 s and 0.3 s,
which no cores make faster. From guesses it is 55 s and 43 s; 2 million take 32 s and 11 s already, so much is fixed.
"""
REPLAYED = 400
"""Sessions a lane that a guess replays, at least. With sessions of up to 200 clicks, 200 were too few in some logs."""


@dataclass(frozen=True)
class Plan:
    """Where each part of a set is in the lanes.

    Attributes:
        parts: their numbers; behind the last one comes the tail, which has the next number.
        places: where the items of each part begin among those of the set, and where the last one's end; int64.
        states: of the lanes before each part and after the last one; int64 (parts + 1, 3, B), shipped.
        stop: the step where the tail ends.
        needed_by: for each part, the first and the last place in `parts` of those that need items of it, the tail's being
            len(parts); int64 (parts, 2), (0, -1) for none.
    """

    parts: tuple[int, ...]
    places: Int64
    states: Shipped
    stop: int
    needed_by: Int64

    def state(self, place: int) -> LaneState:
        """Before the part that has this place in `parts`."""
        return LaneState(*(np.array(one) for one in self.states.array()[place]))


def batches(
    store: Store, of_sets: Record, settings: BatchSettings, argv: Sequence[str], *, fresh: bool
) -> tuple[Record, bool]:
    """The record of the batches of one size, and whether they were there already.

    Raises:
        SettingsError: there are too few sessions for the lanes.
    """
    inputs = {"sequences": of_sets.content}
    recorded = {**asdict(settings), "formats": sorted(set(settings.formats))}
    key = batches_key(settings)
    if not fresh and (found := store.current(key, recorded, inputs)):
        return found, True
    check_sessions(settings, of_sets.counts["sessions"]["train_tr"], force=False)
    table = store.table(next(iter(of_sets.files)).split("/", 1)[0], sorted(of_sets.files))
    plans, counts = plan(store, table, settings, of_sets)
    carried = table.select("of", "part", "first", "items").mapInArrow(partial(carry, plans=plans), HELD)
    own = table.selectExpr("of", "cast(part as int) part", "at", "cast(null as binary) `order`", "lengths", "items")
    tasks = max(2, len({part for one in plans.values() for part in one.parts}))
    both = carried.union(own).repartition(tasks, "of", "part").sortWithinPartitions("of", "part", "at")
    folder = store.write(key, both.mapInArrow(partial(lay, plans=plans, settings=settings), LAID), order=["of", "at"])
    files, _ = store.described_by_workers(folder)
    sizes = {"sets": {name: asdict(one) for name, one in counts.items()}}
    record = Record("batches", recorded, inputs, files, sizes, tuple(argv))
    return store.finish(key, record), False


def batches_key(settings: BatchSettings) -> str:
    """Of the record of batches."""
    return f"batches_bs{settings.batch_size}"


def plan(
    store: Store, table: DataFrame, settings: BatchSettings, of_sets: Record
) -> tuple[dict[str, Plan], dict[str, BatchCounts]]:
    """The scan of each set, over the lengths of its sessions alone."""
    plans, counts = {}, {}
    with explained("the lengths of the sessions could not be read"):
        for name, state, scan in scans(store, table, settings, of_sets):
            before = list(scan)
            stop = state.stop(settings.tail)
            dropped, unknown = state.left(stop), of_sets.counts["unknown"][name]
            counts[name] = BatchCounts(stop, int(state.free.sum()) - dropped, dropped, state.padded, unknown)
            places = np.array([*(one.place for one in before), int(state.end.max()) + 1])
            states = ship(store.spark, np.stack([*(one.state.stacked() for one in before), state.stacked()]))
            needed_by = _needed_by([one.state for one in before], state, places)
            plans[name] = Plan(tuple(one.part for one in before), places, states, stop, needed_by)
    return plans, {name: counts[name] for name in SPLITS}


def scans(
    store: Store, table: DataFrame, settings: BatchSettings, of_sets: Record
) -> Iterator[tuple[str, LaneState, Iterator[Before]]]:
    """Each set with a state, which is that after its last part once its scan has been read to the end."""
    from pyspark.sql import functions as F  # noqa: N812

    # With very many lanes a guess would replay more parts than it saves.
    many = max(ONE_SCAN, REPLAYED * settings.batch_size * len(of_sets.files))
    guessed = [name for name in SPLITS if of_sets.counts["sessions"][name] >= many]
    rows = table.selectExpr("of", "cast(part as int) part", "at", "lengths", "items")
    without_rows = set(SPLITS) - {*guessed}
    for name, some in groupby(lengths_of(rows.where(~F.col("of").isin(guessed))), key=itemgetter("of")):
        without_rows.remove(name)
        state = LaneState.empty(settings.batch_size)
        yield name, state, in_order(some, state)
    for name in guessed:
        state = LaneState.empty(settings.batch_size)
        yield name, state, from_guesses(store, rows.where(F.col("of") == name), state)
    for name in without_rows:
        yield name, LaneState.empty(settings.batch_size), iter(())


def lengths_of(rows: DataFrame) -> Iterator[Any]:
    """Rows of the sets one by one, in order, without their items."""
    return rows_in_order(rows.select("of", "part", "at", "lengths").orderBy("of", "part", "at"))


def in_order(rows: Iterable[Any], state: LaneState, place: int = 0) -> Iterator[Before]:
    """The states before some parts, while `state` advances over their lengths.

    Args:
        rows: part and lengths of some parts of a set that follow each other, in order.
        state: before them.
        place: where the first one's items begin.
    """
    for part, some in groupby(rows, key=itemgetter("part")):
        yield Before(part, place, state.copy())
        for row in some:
            lengths = _lengths([row])
            state.advance(lengths, place)
            place += int(lengths.sum())


def from_guesses(store: Store, rows: DataFrame, state: LaneState) -> Iterator[Before]:
    """What `in_order` gives, for a whole set; no lengths come to the driver but of parts where a guess was wrong."""
    from pyspark.sql import functions as F  # noqa: N812

    sums = rows.groupBy("part").agg(F.expr("sum(length(lengths)) div 4"), F.expr("sum(length(items)) div 4")).collect()
    parts, sessions, clicks = np.array(sorted(sums), np.int64).reshape(-1, 3).T
    before, places = np.cumsum(sessions) - sessions, np.cumsum(clicks) - clicks
    # A guess replays whole parts: what is near is cheap, and the longer, the surer.
    first = np.maximum(np.searchsorted(before, before - REPLAYED * len(state.free), side="right") - 1, 0).tolist()
    about = np.stack([parts, places, places - before], axis=1).tolist()
    wanted = [(about[by][0], *about[at]) for at in range(len(parts)) for by in range(first[at], at + 1)]
    sent = F.broadcast(store.spark.createDataFrame(wanted, "part int, to int, place long, transitions long"))
    together = rows.select("part", "at", "lengths").join(sent, "part").repartition(max(2, len(parts)), "to")
    kernel = partial(guess, lanes=len(state.free))
    guessed = together.sortWithinPartitions("to", "part", "at").mapInArrow(kernel, GUESSED)
    folder = store.write("index", guessed, by_part=False)
    found = rows_in_order(store.table(folder).orderBy("part"))
    guesses = (Guess(row[0], row[1], np.frombuffer(row[2], "<i8"), LaneState.from_bytes(row[3])) for row in found)
    yield from settle(
        state,
        guesses,
        lambda first, last, at: in_order(lengths_of(rows.where(f"part between {first} and {last}")), state, at),
    )
    store.remove(folder)


def guess(batches: Iterable[pa.RecordBatch], lanes: int) -> Iterator[pa.RecordBatch]:
    """Kernel: from the rows of a part and of those before it, all that a part needs together, to its row of `GUESSED`."""
    rows = (row for batch in batches for row in batch.to_pylist())
    for (part, place, transitions), some in groupby(rows, key=itemgetter("to", "place", "transitions")):
        own, earlier = list[dict[str, Any]](), list[dict[str, Any]]()
        for row in some:
            (own if row["part"] == part else earlier).append(row)
        state = LaneState.guessed(transitions, _lengths(earlier), lanes)
        free = state.free.astype("<i8").tobytes()
        state.advance(_lengths(own), place)
        yield batch_of(GUESSED, part=part, place=place, free=free, after=state.to_bytes())


def _lengths(rows: Sequence[Any]) -> Int64:
    """The lengths of rows, one row after the other."""
    found = [np.empty(0, "<i4"), *(np.frombuffer(row["lengths"], "<i4") for row in rows)]
    return np.concatenate(found).astype(np.int64)


def _needed_by(states: Sequence[LaneState], last: LaneState, places: Int64) -> Int64:
    """`Plan.needed_by`."""
    found = np.tile(np.array([0, -1]), (len(states), 1))
    for at in range(1, len(states) + 1):
        held = (states[at] if at < len(states) else last).held()
        owners = np.unique(np.searchsorted(places[:-1], held.place, side="right") - 1)
        new = owners[found[owners, 1] < 0]
        found[new, 0] = at
        found[owners, 1] = at
    return found


def carry(batches: Iterable[pa.RecordBatch], plans: dict[str, Plan]) -> Iterator[pa.RecordBatch]:
    """Kernel: from rows of sessions (of, part, first, items) the items that lanes still need in later parts."""
    for batch in batches:
        for of, part, first, raw in zip(
            *(batch.column(name).to_pylist() for name in ("of", "part", "first", "items")), strict=True
        ):
            found, items = plans[of], np.frombuffer(raw, "<i4")
            place = found.parts.index(int(part))
            begin = int(found.places[place]) + first
            earliest, latest = found.needed_by[place].tolist()
            for by in range(earliest, latest + 1):
                held = found.state(by).held()
                here = np.flatnonzero((held.place >= begin) & (held.place < begin + len(items)))
                if len(here):
                    count = held.count[here] + 1
                    wanted = items[
                        np.repeat(held.place[here] - begin - (np.cumsum(count) - count), count) + np.arange(count.sum())
                    ]
                    to = found.parts[by] if by < len(found.parts) else found.parts[-1] + 1
                    yield batch_of(
                        HELD, of=of, part=to, at=-1, order=here.astype("<i4").tobytes(),
                        lengths=count.astype("<i4").tobytes(), items=wanted.tobytes(),
                    )  # fmt: skip


def lay(batches: Iterable[pa.RecordBatch], plans: dict[str, Plan], settings: BatchSettings) -> Iterator[pa.RecordBatch]:
    """Kernel: all rows of a part (what is carried into it, then its sessions) into blocks of its mini-batches."""
    rows = (row for batch in batches for row in batch.to_pylist())
    for (of, part), some in groupby(rows, key=lambda row: (row["of"], row["part"])):
        yield from _laid(plans[of], of, part, list(some), settings)


def _laid(
    of_set: Plan, of: str, part: int, rows: list[dict[str, Any]], settings: BatchSettings
) -> Iterator[pa.RecordBatch]:
    place = of_set.parts.index(part) if part in of_set.parts else len(of_set.parts)
    state = of_set.state(place)
    held = state.held()
    carried, own = ([row for row in rows if (row["at"] < 0) == is_carried] for is_carried in (True, False))
    items = np.concatenate([_in_order(held, carried), *(np.frombuffer(row["items"], "<i4") for row in own)])
    first, tail = state.step, place == len(of_set.parts)
    runs = held if tail else held + state.advance(_lengths(own), int(of_set.places[place]))
    steps, idle_from = (range(first, of_set.stop), state.free) if tail else (range(first, state.step), None)
    formats = {form: FORMATS[form](settings.batch_size) for form in sorted(set(settings.formats))}
    for at, block in enumerate(fill(steps, settings.batch_size, runs, items, resets=settings.resets, idle_from=idle_from)):
        for array, values in zip(ARRAYS, block.arrays(), strict=True):
            for form, encoder in formats.items():
                content = bytes(encoder.encode(values))
                yield batch_of(
                    LAID, part=part, of=of, at=at, array=array, form=form, steps=len(block.steps), content=content
                )


def _in_order(held: Runs, carried: Sequence[dict[str, Any]]) -> Int32:
    """The items of the runs that are held, one run after the other, from the pieces that other parts sent."""
    pieces: list[Int32] = [np.empty(0, np.int32)] * len(held)
    for row in carried:
        items = np.frombuffer(row["items"], "<i4")
        ends = np.cumsum(np.frombuffer(row["lengths"], "<i4"))
        for order, some in zip(np.frombuffer(row["order"], "<i4").tolist(), np.split(items, ends[:-1]), strict=True):
            pieces[order] = some
    return np.concatenate([np.empty(0, np.int32), *pieces])
