"""What `prep --engine spark` and `land` print."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from pocketrec.cli.reports import SET_NAMES, done, remarks, results
from pocketrec.spark.land import LandReport
from pocketrec.spark.prep import SparkPrepReport
from pocketrec.storage.space import size


@results.register
def _(result: SparkPrepReport) -> Iterable[str]:
    """As of a local `prep`: the block of counts alone."""
    return results(result.split)


@remarks.register
def _(result: SparkPrepReport) -> Iterable[str]:
    yield from results(result.ingest)
    yield from remarks(result.ingest)
    sets = (f"{SET_NAMES[name]} {count:,} of {clicks:,} clicks" for name, (count, clicks) in result.sequences.items())
    yield f"Sequences: {', '.join(sets)}; {result.items:,} items"
    for name, one in result.batches.items():
        yield f"Batches of {SET_NAMES[name]}: {one.steps:,} steps"
    made = f"made now: {', '.join(result.made)}" if result.made else "all of it was there"
    yield f"{result.dataset}: {made}. To this machine: pocketrec land {shlex.quote(result.dataset)} DIR"


@results.register
def _(result: LandReport) -> Iterable[str]:
    stages = ", ".join(result.stages)
    yield f"{done(result.reused, 'Landed')} {result.dataset}: {stages}; {size(result.bytes)} from {result.uri}"
