"""`pocketrec prep --engine spark`: from a log to sequences and the item index on a cluster; batches and text on request.

From Python: `prep_on_spark("s3a://bucket/clicks/*.gz", "s3a://bucket/dataset")` in a driver with a session; from a shell
`spark-submit .../pocketrec/cli/__main__.py prep LOG --engine spark --dataset URI`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketrec.ingestion.ingest import IngestReport, report_of
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.batches import BatchCounts
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.split import SetSize, SplitReport
from pocketrec.sessions.vocabulary import ITEMS_OF
from pocketrec.settings import options_for
from pocketrec.sources.options import ReadSettings
from pocketrec.spark.batches import batches, batches_key
from pocketrec.spark.ingest import ingest
from pocketrec.spark.options import EngineSettings
from pocketrec.spark.sequences import sequences
from pocketrec.spark.session import open_session, rows_a_batch
from pocketrec.spark.split import parts_in, split
from pocketrec.spark.store import Store
from pocketrec.spark.texts import texts
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import Record


@dataclass(frozen=True)
class SparkPrepReport:
    """What is in a dataset on a cluster.

    Attributes:
        dataset: its address.
        ingest: of its parts; `rejects` is None, since `land` writes that file.
        split: sizes of the sets.
        items: in the item index.
        sequences: sessions and clicks of each set that becomes batches.
        batches: of each set, if they were made.
        texts: whether the four txt files were made.
        made: names of the stages that ran now; the others were there.
    """

    dataset: str
    ingest: IngestReport
    split: SplitReport
    items: int
    sequences: dict[str, tuple[int, int]]
    batches: dict[str, BatchCounts]
    texts: bool
    made: tuple[str, ...]


def prep_on_spark(
    log: str | Sequence[str],
    dataset: str,
    *,
    batching: BatchSettings = BatchSettings(),
    splitting: SplitSettings = SplitSettings(),
    reading: ReadSettings = ReadSettings(),
    engine: EngineSettings = EngineSettings(engine="spark"),
    fresh: bool = False,
    progress: Progress = SILENT,
) -> SparkPrepReport:
    """Prepare a log on the cluster of the Spark session; stages that are up to date are not run again.

    Args:
        log: one or several files, folders or patterns, as Spark's Hadoop names them: text, gzip or Parquet.
        dataset: a folder there; one driver at a time may write to it.
        batching: settings of the batches; the order of sessions and the set that is trained on decide the sequences.
        splitting: settings of the split.
        reading: settings of the ingest.
        engine: what is made besides the sequences.
        fresh: run every stage again.
        progress: told when a stage is done.

    Raises:
        LogError, SettingsError: as on one machine.
        MissingExtraError: pyspark is not installed.
        ClusterError: Spark cannot be begun, or cannot read or write what it should.
    """
    named = [log] if isinstance(log, str) else list(log)
    spark = open_session()
    store = Store(spark, dataset)
    argv = ["prep", *named, *options_for(engine, changed=True), *options_for(splitting), *options_for(batching)]
    argv += options_for(reading)
    stages: dict[str, Callable[[], tuple[Record, bool]]] = {
        "ingest": lambda: ingest(store, named, reading, engine.parts, argv, fresh=fresh),
        "roles": lambda: split(store, made["ingest"], splitting, argv, fresh=fresh),
        "sequences": lambda: sequences(store, made["ingest"], made["roles"], batching, argv, fresh=fresh),
    }
    if engine.batches:
        stages[batches_key(batching)] = lambda: batches(store, made["sequences"], batching, argv, fresh=fresh)
    if engine.txt:
        stages["txt"] = lambda: texts(store, made["ingest"], made["roles"], argv, fresh=fresh)
    made, reused = dict[str, Record](), dict[str, bool]()
    with rows_a_batch(spark, 1), progress.task("prep", len(stages), "stages") as advance:
        store.tidy()
        for name, stage in stages.items():
            made[name], reused[name] = stage()
            advance(1)
        store.publish(made)
    clicks, roles, of_sets = made["ingest"], made["roles"], made["sequences"]
    counts = made[batches_key(batching)].counts["sets"] if engine.batches else {}
    sizes = {name: SetSize(**size) for name, size in roles.counts["sets"].items()}
    items = next(file for name, file in roles.files.items() if name.endswith(f"/{ITEMS_OF[batching.train_on]}"))
    return SparkPrepReport(
        store.root,
        replace(
            report_of(Dataset(Path(dataset)), clicks, reused=reused["ingest"]),
            parts=len(parts_in(clicks)),
            bytes=sum(clicks.files[name].bytes for name in parts_in(clicks)),
            rejects=None,
        ),
        SplitReport(sizes, reused["roles"]),
        items.shape[0],
        {name: (of_sets.counts["sessions"][name], of_sets.counts["clicks"][name]) for name in of_sets.counts["sessions"]},
        {name: BatchCounts(**one) for name, one in counts.items()},
        engine.txt,
        tuple(name for name, there in reused.items() if not there),
    )
