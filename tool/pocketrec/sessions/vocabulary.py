"""The item index of what is trained on: items in order of first appearance, and how often each was clicked.

`split` makes that of train_tr on the way and keeps it. That of train_full takes a pass over the parts, when `batches` needs
it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.ingestion.parts import Parts, read_column, read_lines
from pocketrec.parallel import ahead
from pocketrec.schema import ITEM, Int64
from pocketrec.sessions.holdout import NEVER, ROLE_OF
from pocketrec.sessions.item_codes import MISSING, ItemCodes, ItemCounts
from pocketrec.sessions.options import TrainOn
from pocketrec.storage.item_index import read_items
from pocketrec.storage.layout import Dataset
from pocketrec.storage.npy import open_array


def training_items(where: Dataset, parts: Parts, train_on: TrainOn) -> tuple[ItemCodes, Int64]:
    """The items in the order of their codes, and the clicks of each; int64 (n_items,)."""
    if train_on == "train_tr":
        frame = read_items(where.roles / "items.parquet", ("item_id", "support"))
        return ItemCodes(frame["item_id"].to_numpy()), frame["support"].to_numpy()
    return _count(where, parts, ROLE_OF[train_on])


def _count(where: Dataset, parts: Parts, role: int) -> tuple[ItemCodes, Int64]:
    def items_and_lines(path: Path) -> tuple[Int64, Int64]:
        roles = open_array(where.roles_of(path), dtype=np.uint8, shape=(None,))
        rows = np.flatnonzero(roles & role)
        return read_column(path, ITEM)[rows], read_lines(path, len(roles))[rows]

    counts, first = ItemCounts(), np.empty(0, np.int64)
    for ids, lines in ahead(items_and_lines, parts.folders):
        counts.add(ids)
        first = np.concatenate([first, np.full(len(counts.counts) - len(first), NEVER)])
        codes = counts.codes.of(ids)
        assert (codes != MISSING).all(), "an id that was counted has a code"
        np.minimum.at(first, codes, lines)
    order = np.argsort(first)
    return ItemCodes(counts.codes.ids[order]), counts.counts[order]
