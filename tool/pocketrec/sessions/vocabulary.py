"""The item index of what is trained on: items in order of first appearance, and how often each was clicked.

`split` makes that of each set a model can be trained on, and keeps it beside the roles.
"""

from __future__ import annotations

from pocketrec.errors import DatasetError
from pocketrec.schema import Int64
from pocketrec.sessions.item_codes import ItemCodes
from pocketrec.sessions.options import TrainOn
from pocketrec.storage.item_index import read_items
from pocketrec.storage.layout import Dataset

ITEMS_OF: dict[TrainOn, str] = {"train_tr": "items.parquet", "train_full": "items_full.parquet"}
"""The file of each set's items, in DIR/parquet/roles."""


def training_items(where: Dataset, train_on: TrainOn) -> tuple[ItemCodes, Int64]:
    """The items in the order of their codes, and the clicks of each; int64 (n_items,).

    Raises:
        DatasetError: the split was made by a pocketrec that did not keep this index yet.
    """
    path = where.roles / ITEMS_OF[train_on]
    if not path.exists():
        raise DatasetError(
            f"{where.roles} has no items of {train_on}: an earlier pocketrec made it.",
            expected=f"the file {path.name} beside the roles",
            do=f"pocketrec split --fresh --dataset {where.root}, with the options that it had",
        )
    frame = read_items(path, ("item_id", "support"))
    return ItemCodes(frame["item_id"].to_numpy()), frame["support"].to_numpy()
