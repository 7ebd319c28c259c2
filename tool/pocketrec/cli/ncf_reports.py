"""NCF's reports as lines of text: registered with `pocketrec.cli.reports` when it is imported."""

from __future__ import annotations

from collections.abc import Iterable

from pocketrec.cli.reports import done, left_out, not_kept, remarks, results
from pocketrec.ncf.batches import NcfBatchesReport
from pocketrec.ncf.evaluate import NcfEvaluateReport
from pocketrec.ncf.prep import NcfPrepReport
from pocketrec.ncf.ranking import Metrics
from pocketrec.ncf.recommend import NcfRecommendReport
from pocketrec.ncf.train import TOP, NcfTrainReport
from pocketrec.storage.space import size


@results.register
def _(result: NcfPrepReport) -> Iterable[str]:
    what = f"Ratings: {result.ratings:,} of {result.users:,} users and {result.items:,} items"
    held = f"{result.train:,} for training, {result.test:,} for the test" + (
        f", {result.valid:,} for validation" if result.valid else ""
    )
    yield done(result.reused, f"{what}: {held}")


@remarks.register
def _(result: NcfPrepReport) -> Iterable[str]:
    yield from left_out(result.ingest, result.ratings)
    if result.cold:
        yield f"  {result.cold:,} test positives are items that nobody has in the train set"


@results.register
def _(result: NcfBatchesReport) -> Iterable[str]:
    what = f"{result.epochs:,} epochs of {result.examples:,} examples in {result.steps:,} batches"
    evaluation = f"{result.evaluation_batches:,} evaluation batches"
    yield done(result.reused, f"Epochs: {result.folder}, {what}, {evaluation}, {size(result.bytes)}")


@results.register
def _(result: NcfTrainReport) -> Iterable[str]:
    for epoch in result.epochs:
        judged = f"  {_metrics(epoch.metrics, TOP)}" if epoch.metrics else ""
        speed = f"  {epoch.examples_a_second:,.0f} examples/s" if epoch.examples_a_second else ""
        yield f"epoch {epoch.epoch:>3}  loss {epoch.loss:.4f}{judged}{speed}"
    set_name = {"valid": "validation positives", "test": "test positives"}[result.judged_on]
    yield f"popularity  {_metrics(result.popularity, TOP)}  ({result.negatives} negatives, {set_name})"
    what = f"Network: {result.path}, {result.parameters:,} parameters, epoch {result.kept}"
    yield done(result.reused, what + (", the best on the validation positives" if result.chosen else ""))


@remarks.register
def _(result: NcfTrainReport) -> Iterable[str]:
    if result.held_out:
        yield f"  validation positives: the latest training rating of {result.held_out:,} users, which was held out"
        yield f"  to train on all, for as long: --keep last --train-epochs {result.kept}"
    if result.resumed:
        yield f"  went on after epoch {result.resumed} of a run that had been stopped"


@results.register
def _(result: NcfEvaluateReport) -> Iterable[str]:
    twice = "without those drawn twice" if result.ml_perf else "those drawn twice count twice"
    heads = [f"{result.negatives} negatives", *(["all unseen items"] if result.network.full else [])]
    yield f"{result.network.sampled.users:,} users, {result.on} positives; {heads[0]}, {twice}"
    for name, scores in ((result.model, result.network), ("popularity", result.popularity)):
        for head, one in zip(heads, (scores.sampled, scores.full), strict=False):
            if one:
                yield f"{name:<10}  {head:<16}  {_metrics(one, result.top)}"


@remarks.register
def _(result: NcfEvaluateReport) -> Iterable[str]:
    return not_kept(result.not_kept)


@results.register
def _(result: NcfRecommendReport) -> Iterable[str]:
    for one in result.items:
        yield str(one.item)


@remarks.register
def _(result: NcfRecommendReport) -> Iterable[str]:
    yield f"  {result.seen:,} items that user {result.user} has rated are left out"


def _metrics(metrics: Metrics, top: int) -> str:
    return f"HR@{top} {metrics.hr:.4f}  NDCG@{top} {metrics.ndcg:.4f}"
