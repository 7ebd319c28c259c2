"""`pocketrec prep --engine spark`: from a log to sequences and the item index on a cluster; batches and text on request.

From Python: `prep_on_spark("s3a://bucket/clicks/*.gz", "s3a://bucket/dataset")` in a driver with a session; from a shell
`spark-submit .../pocketrec/cli/__main__.py prep LOG --engine spark --dataset URI`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketrec.ingestion.ingest import IngestReport, report_of
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
    with rows_a_batch(spark, 1):
        store.tidy()
        clicks, had_clicks = ingest(store, named, reading, engine.parts, argv, fresh=fresh)
        roles, had_roles = split(store, clicks, splitting, argv, fresh=fresh)
        of_sets, had_sets = sequences(store, clicks, roles, batching, argv, fresh=fresh)
        reused = {"ingest": had_clicks, "split": had_roles, "sequences": had_sets}
        records = {"ingest": clicks, "roles": roles, "sequences": of_sets}
        counts: dict[str, BatchCounts] = {}
        if engine.batches:
            made, reused["batches"] = batches(store, of_sets, batching, argv, fresh=fresh)
            counts = {name: BatchCounts(**one) for name, one in made.counts["sets"].items()}
            records[batches_key(batching)] = made
        if engine.txt:
            records["txt"], reused["txt"] = texts(store, clicks, roles, argv, fresh=fresh)
        store.publish(records)
    sizes = {name: SetSize(**size) for name, size in roles.counts["sets"].items()}
    items = next(file for name, file in roles.files.items() if name.endswith(f"/{ITEMS_OF[batching.train_on]}"))
    return SparkPrepReport(
        store.root,
        replace(
            report_of(Dataset(Path(dataset)), clicks, reused=had_clicks),
            parts=len(parts_in(clicks)),
            bytes=sum(clicks.files[name].bytes for name in parts_in(clicks)),
            rejects=None,
        ),
        SplitReport(sizes, had_roles),
        items.shape[0],
        {name: (of_sets.counts["sessions"][name], of_sets.counts["clicks"][name]) for name in of_sets.counts["sessions"]},
        counts,
        engine.txt,
        tuple(name for name, there in reused.items() if not there),
    )
