"""The four rsc15 txt files on a cluster: Spark puts the rows in the order of the log, `sessions.rsc15` writes the lines."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from pocketrec.ingestion.ids import ID
from pocketrec.schema import ITEM, ROW, SESSION, TIME
from pocketrec.sessions import rsc15
from pocketrec.sessions.holdout import ROLE_OF
from pocketrec.spark.session import rows_a_batch
from pocketrec.spark.split import Rules, parts_in, roles_of, rules_of
from pocketrec.spark.store import Store
from pocketrec.spark.tables import PIECE, batch_of, bytes_of, runs
from pocketrec.storage.manifest import Record

TEXTS = "part int, of string, at long, text binary"
ROWS_A_BATCH = 1 << 15


def texts(store: Store, clicks: Record, roles: Record, argv: Sequence[str], *, fresh: bool) -> tuple[Record, bool]:
    """Write them, in pieces that follow each other; and whether they were there already."""
    from pyspark.sql import functions as F  # noqa: N812

    inputs = {"clicks": clicks.content, "roles": roles.content}
    if not fresh and (found := store.current("txt", roles.settings, inputs)):
        return found, True
    parts, ids = parts_in(clicks), [ID[name] for name in (SESSION, ITEM) if name in clicks.counts["text_ids"]]
    columns = ", ".join(("session long, item long, time long, row long, role byte", *(f"{name} string" for name in ids)))
    rows = store.each(parts, partial(with_roles, rules=rules_of(store, roles), columns=columns), columns)
    # Rows are numbered from 0 on, so where each part of the text begins is known: no query looks for it.
    part = (F.col(ROW) * len(parts) / clicks.counts["rows"]).cast("int").alias("part")
    in_order = rows.select("*", part).repartition(len(parts), "part").sortWithinPartitions("part", ROW)
    with rows_a_batch(store.spark, ROWS_A_BATCH, a_file=True):
        folder = store.write("txt", in_order.mapInArrow(partial(encode, ids=ids), TEXTS), order=["of", "at"])
    files, _ = store.described_by_workers(folder)
    return store.finish(
        "txt", Record("split", roles.settings, inputs, files, dict(roles.counts["sets"]), tuple(argv))
    ), False


def with_roles(batches: Iterable[pa.RecordBatch], rules: Rules, columns: str) -> Iterator[pa.RecordBatch]:
    """Kernel: the rows of a part that are in a set, with their roles."""
    for _, content in bytes_of(batches):
        rows, role = roles_of(content, rules)
        chosen = np.flatnonzero(role)
        ids = [name.split()[0] for name in columns.split(", ")[5:]]
        text = pl.read_parquet(io.BytesIO(content), columns=[*ids, ROW]).sort(ROW)[chosen] if ids else pl.DataFrame()
        values = {SESSION: rows.session, ITEM: rows.item, TIME: rows.time, ROW: rows.row}
        columns_of: dict[str, Any] = {name: value[chosen] for name, value in values.items()}
        columns_of |= {name: text[name].to_arrow() for name in ids}
        yield batch_of(columns, role=role[chosen].astype(np.int8), **columns_of)


def encode(batches: Iterable[pa.RecordBatch], ids: list[str]) -> Iterator[pa.RecordBatch]:
    """Kernel: rows in the order of the log into the lines of each set, part by part."""
    at = 0
    for batch in batches:
        part = batch.column("part").to_numpy()
        for begin, end in runs(part):
            some = batch.slice(begin, end - begin)
            session, item, time, row = (some.column(name).to_numpy() for name in (SESSION, ITEM, TIME, ROW))
            role = some.column("role").to_numpy().astype(np.uint8)
            text = pl.DataFrame({name: pl.Series(some.column(name)) for name in ids}) if ids else None
            _, found = rsc15.encode_sets(rsc15.Clicks(session, item, time, row, role, text))
            for name in ROLE_OF:
                whole = b"".join(found[name][0])
                for first in range(0, len(whole), PIECE):
                    yield batch_of(TEXTS, part=int(part[begin]), of=name, at=at, text=whole[first : first + PIECE])
                    at += 1
