"""The DNN's reports as lines of text: registered with `pocketrec.cli.reports` when it is imported."""

from __future__ import annotations

from collections.abc import Iterable

from pocketrec.cli.reports import done, left_out, not_kept, remarks, results
from pocketrec.dnn.evaluate import DnnEvaluateReport
from pocketrec.dnn.metrics import Accuracy
from pocketrec.dnn.predict import DnnPredictReport
from pocketrec.dnn.prep import DnnPrepReport
from pocketrec.dnn.train import DnnTrainReport


@results.register
def _(result: DnnPrepReport) -> Iterable[str]:
    total = result.train + result.valid + result.test
    what = (
        f"Ratings: {total:,} of {result.users:,} users and {result.items:,} items, {result.lowest:g} to {result.highest:g}"
    )
    held = f"{result.train:,} for training, {result.valid:,} for validation, {result.test:,} for the test"
    yield done(result.reused, f"{what}: {held}")


@remarks.register
def _(result: DnnPrepReport) -> Iterable[str]:
    yield from left_out(result.ingest, result.train + result.valid + result.test)
    if result.genres:
        yield f"  movies.csv: {result.genres:,} genres, and years; tags.csv: {result.tags:,} tags"
    else:
        yield "  no movies.csv came along: items have no genres and no years"
    if result.new_users:
        yield f"  {result.new_users:,} ratings held out are of users who have none in the train set: code 0"
    if result.new_items:
        unknown = f"; {result.unknown_items:,} of them not in movies.csv either: code 0" if result.unknown_items else ""
        yield f"  {result.new_items:,} ratings held out are of items that have none in the train set{unknown}"


@results.register
def _(result: DnnTrainReport) -> Iterable[str]:
    for epoch in result.epochs:
        learned = "  ".join(f"{name} {value:.4f}" for name, value in epoch.train.items())
        valid = f"  valid: {_accuracy(epoch.valid)}" if epoch.valid else ""
        yield f"epoch {epoch.epoch:>3}  {learned}{valid}{'  *' if epoch.epoch == result.kept else ''}"
    best = "the best on the validation set" if result.epochs[-1].valid else "the last"
    what = f"Network: {result.path}, {result.parameters:,} parameters, epoch {result.kept}, {best}"
    yield done(result.reused, what)
    yield f"Keras model: {result.keras}" + (f"; picture: {result.picture}" if result.picture else "")


@remarks.register
def _(result: DnnTrainReport) -> Iterable[str]:
    if result.resumed and not result.reused:
        yield f"  went on after epoch {result.resumed}, from a checkpoint"
    if result.stopped:
        yield "  stopped early: the validation set was predicted no better any more"
    if not result.epochs[-1].valid:
        yield "  there is no validation set to choose an epoch by"


@results.register
def _(result: DnnEvaluateReport) -> Iterable[str]:
    yield f"{result.ratings:,} ratings of {result.on}"
    for name, one in result.models.items():
        yield f"{name:<17} {_accuracy(one)}"


@remarks.register
def _(result: DnnEvaluateReport) -> Iterable[str]:
    yield f"  the network has epoch {result.epochs}; the other two learned from {' and '.join(result.learned_from)}"
    if result.picture:
        yield f"  picture: {result.picture}"
    yield from not_kept(result.not_kept)


@results.register
def _(result: DnnPredictReport) -> Iterable[str]:
    for one in result.items:
        odds = "".join(f"  {value:g}: {share:.1%}" for value, share in one.probabilities.items())
        yield f"{one.item}\t{one.rating:.3f}" + (f"\t{one.title}" if one.title else "") + odds


@remarks.register
def _(result: DnnPredictReport) -> Iterable[str]:
    if not result.known:
        yield f"  user {result.user} has no ratings in the train set: this is what a user of no habits would give"
    for one in result.items:
        if not one.known:
            yield f"  item {one.item} is in neither the train set nor movies.csv: this is a rating for any item"
        elif not one.support:
            yield f"  item {one.item} has no ratings in the train set: it is known by its genres and year"


def _accuracy(one: Accuracy) -> str:
    shown = [f"RMSE {one.rmse:.4f}", f"MAE {one.mae:.4f}"]
    shown += [f"accuracy {one.accuracy:.4f}"] if one.accuracy is not None else []
    shown += [f"cross-entropy {one.cross_entropy:.4f}"] if one.cross_entropy is not None else []
    return "  ".join(shown)
