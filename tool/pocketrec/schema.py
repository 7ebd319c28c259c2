"""The canonical columns of a click log, named and typed once.

| column  | dtype | unit |
|---------|-------|------|
| session | int64 | the log's own id, 0 .. 2^63-1 |
| item    | int64 | the log's own id, 0 .. 2^63-1 |
| time    | int64 | milliseconds since 1970-01-01T00:00:00Z |
| row     | int64 | the click's line in the log, from 0 |
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SESSION, ITEM, TIME, ROW = "session", "item", "time", "row"
CLICK_COLUMNS = (SESSION, ITEM, TIME, ROW)

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

MS = 1000
"""Milliseconds in a second."""
