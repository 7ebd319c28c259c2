"""The four txt files with DuckDB, limited to 1 GB of memory, spilling to disk.

Run as: python duckdb_sql.py LOG OUTDIR BATCH_SIZE (the batch size is not used: no batches are made)

The database is a file, so that its tables need not fit in memory. `rowid` is the place of a row in the log, as long as
rows were only ever inserted; sorting by it is what keeps the order of the log in the output.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import duckdb

LOAD = """
CREATE TABLE clicks AS
SELECT session, item, epoch_ms(time) AS ms
FROM read_csv(?, header = false, auto_detect = false, delim = ',', quote = '', escape = '',
              columns = {'session': 'BIGINT', 'time': 'TIMESTAMP', 'item': 'BIGINT', 'category': 'VARCHAR'})
"""
FREQUENT = "SELECT {column} FROM {table} GROUP BY {column} HAVING count(*) >= {least}"
KEEP = "CREATE TABLE {out} AS SELECT * FROM {table} WHERE {column} IN (" + FREQUENT + ") ORDER BY rowid"
EARLY = """
CREATE TABLE {train}_sessions AS
SELECT session FROM {table} GROUP BY session HAVING max(ms) < (SELECT max(ms) FROM {table}) - 86400000
"""
TRAIN = "CREATE TABLE {train} AS SELECT * FROM {table} WHERE session IN (FROM {train}_sessions) ORDER BY rowid"
TEST = """
CREATE TABLE {test}_known AS
SELECT * FROM {table}
WHERE session NOT IN (FROM {train}_sessions) AND item IN (SELECT item FROM {train})
ORDER BY rowid
"""
# A double as text is its shortest form, always with a fraction.
WRITE = """
COPY (SELECT session AS SessionId, item AS ItemId, ms / 1000 AS Time FROM {table} ORDER BY rowid)
TO '{path}' (FORMAT csv, DELIMITER '\t', HEADER true)
"""


def keep_frequent(db: duckdb.DuckDBPyConnection, table: str, column: str, least: int, out: str) -> None:
    """Rows whose value occurs at least `least` times; the table they come from is dropped."""
    db.execute(KEEP.format(table=table, column=column, least=least, out=out))
    db.execute(f"DROP TABLE {table}")


def hold_out(db: duckdb.DuckDBPyConnection, table: str, train: str, test: str) -> None:
    """Sessions that end before the last day, and those of the last day with known items."""
    for statement in (EARLY, TRAIN, TEST):
        db.execute(statement.format(table=table, train=train, test=test))
    keep_frequent(db, f"{test}_known", "session", 2, test)


def main(log: Path, outdir: Path) -> None:
    """The whole job."""
    with tempfile.TemporaryDirectory(dir=outdir) as scratch, duckdb.connect(f"{scratch}/clicks.duckdb") as db:
        db.execute("SET memory_limit = '1GB'")
        db.execute(f"SET temp_directory = '{scratch}/spill'")
        db.execute(LOAD, [str(log)])
        keep_frequent(db, "clicks", "session", 2, "step1")
        keep_frequent(db, "step1", "item", 5, "step2")
        keep_frequent(db, "step2", "session", 2, "step3")
        hold_out(db, "step3", "train_full", "test")
        hold_out(db, "train_full", "train_tr", "train_valid")
        for name in ("train_full", "test", "train_tr", "train_valid"):
            db.execute(WRITE.format(table=name, path=outdir / f"rsc15_{name}.txt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
