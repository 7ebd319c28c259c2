"""The hold-out over the parts of a cluster: the passes of `sessions.holdout`, part by part in workers, summed by Spark.

What a part's rows are in is a function of the part, the vocabulary, the earliest end of each item and two cuts (`Rules`).
So later stages work it out anew from the part, which is cheaper than to send parts and roles to the same place.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from pocketrec.schema import ITEM, ROW, SESSION, TIME, Bool, Int64, UInt8
from pocketrec.sessions import holdout
from pocketrec.sessions.holdout import LONG_AGO, NEVER, ROLE_OF, TRAINED_ON, Tally
from pocketrec.sessions.item_codes import MISSING, ItemCodes, ItemCounts
from pocketrec.sessions.options import SplitSettings, TrainOn
from pocketrec.sessions.split import SetSize, check_sizes
from pocketrec.sessions.vocabulary import ITEMS_OF
from pocketrec.spark.store import Store
from pocketrec.spark.tables import Shipped, batch_of, bytes_of, mapped, noted, notes_in, pieces, ship
from pocketrec.storage.manifest import OutputFile, Record

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

COUNTED = "item long, n long"
SURVEYED = "ends binary, code int, first_end long, note string"
RULES, VOCABULARY, FIRST_END = "rules.json", "vocabulary.npy", "first_end.npy"
"""Files of the stage roles: what `Rules` has, the roles of all rows follow from it."""
ASSIGNED = "code int, bits byte, support_tr long, first_tr long, support_full long, first_full long"
"""Of an item the sets that have it, and how often the two to train on have it, and from which row on.

Codes below 0 are of the sets themselves, ~code in the order of `ROLE_OF`: clicks as support_tr, sessions as support_full.
"""
SHORT: dict[TrainOn, str] = {"train_tr": "tr", "train_full": "full"}


@dataclass(frozen=True)
class Rules:
    """What decides the roles of a part's rows.

    Attributes:
        settings: of the split.
        items: the ids that are frequent enough, ascending; int64, shipped.
        first_end: of each of them, the earliest end of a session that has it, in ms; int64, shipped.
        cut: what `holdout.cuts` returns.
    """

    settings: SplitSettings
    items: Shipped
    first_end: Shipped | None = None
    cut: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Rows:
    """The columns of a part in the order of the log, int64."""

    session: Int64
    item: Int64
    time: Int64
    row: Int64

    @classmethod
    def of(cls, content: pa.Buffer) -> Rows:
        """From the Parquet that `ingest` wrote."""
        frame = pl.read_parquet(io.BytesIO(content), columns=[SESSION, ITEM, TIME, ROW])
        frame = frame if frame[ROW].is_sorted() else frame.sort(ROW)
        return cls(*(frame[name].to_numpy() for name in (SESSION, ITEM, TIME, ROW)))


@dataclass(frozen=True)
class Filtered:
    """A part after the filters, as `holdout.drop_filtered` and `holdout.session_ends` have it."""

    rows: Rows
    codes: Int64
    sessions: int
    kept: np.ndarray[tuple[int], np.dtype[np.int32]]
    ends: Int64
    left: list[int]

    @classmethod
    def of(cls, content: pa.Buffer, rules: Rules) -> Filtered:
        """Of one part."""
        rows = Rows.of(content)
        codes, sessions = holdout.session_codes(rows.session)
        kept = codes_of(rules.items.path).of(rows.item)
        left = holdout.drop_filtered(kept, codes, sessions, rules.settings)
        return cls(rows, codes, sessions, kept, holdout.session_ends(kept, codes, sessions, rows.time), left)

    def members(self, rules: Rules) -> dict[str, Bool]:
        """Which rows are in each set."""
        assert rules.first_end is not None
        first_end = rules.first_end.array()
        return holdout.assign(self.kept, self.ends, self.codes, first_end, rules.cut, rules.settings)


@cache
def codes_of(path: str) -> ItemCodes:
    """The vocabulary in a shipped file; made once by each worker."""
    return ItemCodes(np.asarray(mapped(path)))


def roles_of(content: pa.Buffer, rules: Rules) -> tuple[Rows, UInt8]:
    """A part and the role of each of its rows."""
    found = Filtered.of(content, rules)
    return found.rows, holdout.roles(found.members(rules))


def split(
    store: Store, clicks: Record, settings: SplitSettings, argv: Sequence[str], *, fresh: bool
) -> tuple[Record, bool]:
    """What decides the roles of all rows, and the items of each set a model can be trained on; and whether it was there.

    Raises:
        SettingsError: no session is left to train on.
    """
    inputs, recorded = {"clicks": clicks.content}, asdict(settings)
    if not fresh and (found := store.current("roles", recorded, inputs)):
        return found, True
    parts = parts_in(clicks)
    vocabulary = frequent(store, parts, settings)
    rules, left = survey(store, parts, settings, vocabulary)
    check_sizes(left[-1], left[-1], clicks.counts, settings)
    total = _summed(store, store.each(parts, partial(assign, rules=rules), ASSIGNED), len(vocabulary))
    check_sizes(total.sets["train_tr"].sessions, left[-1], clicks.counts, settings)
    folder, files = store.new_folder("roles"), dict[str, OutputFile]()
    for name, trained in total.trained.items():
        index = trained.index()
        frame = pl.DataFrame({"item_id": vocabulary[index], "support": trained.support[index]})
        file = io.BytesIO()
        frame.write_parquet(file)
        files |= store.put_described(f"{folder}/{ITEMS_OF[name]}", file.getvalue(), frame.shape)
    files |= store.put_array(f"{folder}/{VOCABULARY}", vocabulary)
    assert rules.first_end
    files |= store.put_array(f"{folder}/{FIRST_END}", rules.first_end.array())
    files |= store.put_described(f"{folder}/{RULES}", json.dumps({"settings": recorded, "cut": rules.cut}).encode())
    counts = {
        "sets": {name: asdict(SetSize(one.events, one.sessions, one.items)) for name, one in total.sets.items()},
        "filters": dict(zip(("rows", "long_sessions", "frequent_items", "left"), left, strict=True)),
    }
    return store.finish("roles", Record("roles", recorded, inputs, files, counts, tuple(argv))), False


def parts_in(record: Record) -> list[str]:
    """The files of a record that are parts of its table, in order."""
    return sorted(name for name in record.files if name.startswith("clicks-"))


def frequent(store: Store, parts: Sequence[str], settings: SplitSettings) -> Int64:
    """First pass: the ids of items that are frequent enough, ascending."""
    from pyspark.sql import functions as F  # noqa: N812

    counted = store.each(parts, partial(count, settings=settings), COUNTED).groupBy("item").agg(F.sum("n").alias("n"))
    return np.sort(store.collected(counted.where(F.col("n") >= settings.min_item_support).select("item"))["item"])


def survey(store: Store, parts: Sequence[str], settings: SplitSettings, vocabulary: Int64) -> tuple[Rules, list[int]]:
    """Second pass: the rules with all that decides; and how many rows there were, and how many each filter left."""
    from pyspark.sql import functions as F  # noqa: N812

    rules = Rules(settings, ship(store.spark, vocabulary))
    folder = store.write("ends", store.each(parts, partial(look, rules=rules), SURVEYED), by_part=False)
    table = store.table(folder)
    notes = notes_in(table)
    left = np.sum([one["left"] for one in notes], axis=0).tolist()
    earliest = store.collected(table.where("code is not null").groupBy("code").agg(F.min("first_end").alias("first_end")))
    first_end = np.full(len(vocabulary), NEVER)
    first_end[earliest["code"]] = earliest["first_end"]
    tmax = max(one["tmax"] for one in notes)
    test = holdout.cut_before(tmax, settings)
    ends = table.where("ends is not null").select("ends")
    latest = max(
        (one["latest"] for one in noted(ends.mapInArrow(partial(latest_end, cut=test), "note string"))), default=LONG_AGO
    )
    store.remove(folder)
    return Rules(settings, rules.items, ship(store.spark, first_end), (test, holdout.cut_before(latest, settings))), left


def rules_of(store: Store, roles: Record) -> Rules:
    """The rules by which roles were made."""
    names = {name.rsplit("/", 1)[-1]: name for name in roles.files}
    arrays = (store.array(names[name], roles) for name in (VOCABULARY, FIRST_END))
    items, first_end = (ship(store.spark, array) for array in arrays)
    found = json.loads(store.content(names[RULES], roles))
    return Rules(SplitSettings(**found["settings"]), items, first_end, tuple(found["cut"]))


def count(batches: Iterable[pa.RecordBatch], settings: SplitSettings) -> Iterator[pa.RecordBatch]:
    """Kernel of the first pass: items of a part, and how often each counts."""
    for _, content in bytes_of(batches):
        rows, counts = Rows.of(content), ItemCounts()
        counts.add(holdout.in_long_sessions(rows.session, rows.item, settings))
        yield batch_of(COUNTED, item=counts.codes.ids, n=counts.counts)


def look(batches: Iterable[pa.RecordBatch], rules: Rules) -> Iterator[pa.RecordBatch]:
    """Kernel of the second pass: the ends of a part's sessions, the earliest of each item, and what the filters left."""
    for _, content in bytes_of(batches):
        found = Filtered.of(content, rules)
        left = np.flatnonzero(found.kept != MISSING)
        first = np.full(len(codes_of(rules.items.path)), NEVER)
        np.minimum.at(first, found.kept[left], found.ends[found.codes[left]])
        here = np.flatnonzero(first != NEVER)
        for some in pieces(found.ends):
            yield batch_of(SURVEYED, ends=some.tobytes())
        yield batch_of(SURVEYED, code=here.astype(np.int32), first_end=first[here])
        yield batch_of(SURVEYED, note={"left": found.left, "tmax": int(found.ends.max(initial=LONG_AGO))})


def latest_end(batches: Iterable[pa.RecordBatch], cut: float) -> Iterator[pa.RecordBatch]:
    """Kernel: the latest end of a session before a cut."""
    for batch in batches:
        for ends in batch.column("ends").to_pylist():
            latest = holdout.latest_before(cut, np.frombuffer(ends, np.int64))
            yield batch_of("note string", note={"latest": latest})


def assign(batches: Iterable[pa.RecordBatch], rules: Rules) -> Iterator[pa.RecordBatch]:
    """Kernel of the third pass: from parts to `ASSIGNED`."""
    for _, content in bytes_of(batches):
        found = Filtered.of(content, rules)
        members, row = found.members(rules), found.rows.row
        tally = holdout.tally(members, found.kept, found.codes, found.sessions, row, len(codes_of(rules.items.path)))
        bits = sum(tally.sets[name].known * np.int8(bit) for name, bit in ROLE_OF.items())
        here = np.flatnonzero(bits)
        columns = {
            f"{what}_{SHORT[name]}": getattr(tally.trained[name], long)[here]
            for name in TRAINED_ON
            for what, long in (("support", "support"), ("first", "first_row"))
        }
        yield batch_of(ASSIGNED, code=here.astype(np.int32), bits=np.asarray(bits)[here], **columns)
        for place, size in enumerate(tally.sets.values()):
            yield batch_of(
                ASSIGNED, code=~place, bits=0, first_tr=0, first_full=0,
                support_tr=size.events, support_full=size.sessions,
            )  # fmt: skip


def _summed(store: Store, rows: DataFrame, items: int) -> Tally:
    """`ASSIGNED` over all parts: a sum a column, an OR of the sets."""
    from pyspark.sql import functions as F  # noqa: N812

    sums = [F.sum(f"support_{short}").alias(f"support_{short}") for short in SHORT.values()]
    firsts = [F.min(f"first_{short}").alias(f"first_{short}") for short in SHORT.values()]
    found = store.collected(rows.groupBy("code").agg(F.bit_or("bits").alias("bits"), *sums, *firsts))
    order = np.argsort(found["code"])
    of_sets, of_items = order[: len(ROLE_OF)][::-1], order[len(ROLE_OF) :]
    total, code = Tally.empty(items), found["code"][of_items]
    for (name, bit), place in zip(ROLE_OF.items(), of_sets, strict=True):
        one = total.sets[name]
        one.events, one.sessions = int(found["support_tr"][place]), int(found["support_full"][place])
        one.known[code] = (found["bits"][of_items] & bit) != 0
    for name, short in SHORT.items():
        total.trained[name].support[code] = found[f"support_{short}"][of_items]
        total.trained[name].first_row[code] = found[f"first_{short}"][of_items]
    return total
