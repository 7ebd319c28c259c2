"""What the reports of `pocketrec ncf` and `pocketrec dnn` share."""

from __future__ import annotations

from collections.abc import Iterator

from pocketrec.ingestion.ingest import IngestReport


def left_out(read: IngestReport, used: int) -> Iterator[str]:
    """Remarks on ratings that were read and are not used, and on lines that are not ratings."""
    if left := read.rows - used:
        yield f"  {left:,} ratings left out, of users with too few, or given twice"
    if read.set_aside:
        yield f"  {read.set_aside:,} lines set aside in {read.rejects}"
