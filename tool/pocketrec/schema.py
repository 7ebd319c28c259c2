"""The canonical columns of a click log, named and typed once.

| column  | dtype | unit |
|---------|-------|------|
| session | int64 | the log's own id, 0 .. 2^63-1 |
| item    | int64 | the log's own id, 0 .. 2^63-1 |
| time    | int64 | milliseconds since 1970-01-01T00:00:00Z |
| row     | int64 | the click's number among the clicks of the log, from 0, without gaps |

Ratings that are wanted with their values have one more, `rating`, float32, as it was given.

A log whose ids are not whole numbers has codes for them, from 0 in the order of the ids' bytes, and beside them the ids
that came in, `session_id` and `item_id`, String.

Where every line of a log is a click, `row` is also the line's number; a header and lines set aside are not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SESSION, ITEM, TIME, ROW = "session", "item", "time", "row"
CLICK_COLUMNS = (SESSION, ITEM, TIME, ROW)
RATING = "rating"
KEPT = "kept"
"""Of rows on their way to the parts: false for one that `--where` leaves out, and that a gap is measured to."""

Array = npt.NDArray[Any]
Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Int8 = npt.NDArray[np.int8]
UInt64 = npt.NDArray[np.uint64]
UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

MS = 1000
"""Milliseconds in a second."""
