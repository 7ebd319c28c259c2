"""The canonical columns of a click log, named and typed once.

| column  | dtype | unit |
|---------|-------|------|
| session | int64 | the log's own id, 0 .. 2^63-1 |
| item    | int64 | the log's own id, 0 .. 2^63-1 |
| time    | int64 | milliseconds since 1970-01-01T00:00:00Z |
| row     | int64 | the click's number among the clicks of the log, from 0, without gaps |

Ratings that are wanted with their values have one more, `rating`, float32, as it was given.

A log whose ids are no whole numbers has codes for them, from 0 in the order of the ids' bytes, and beside them the ids that
came in, `session_id` and `item_id`, String.

Where every line of a log is a click, `row` is the line, too; a header and lines that were set aside are not counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SESSION, ITEM, TIME, ROW = "session", "item", "time", "row"
CLICK_COLUMNS = (SESSION, ITEM, TIME, ROW)
RATING = "rating"

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

MS = 1000
"""Milliseconds in a second."""
