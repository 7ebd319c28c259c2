"""Ratings, and the networks of ncf and dnn, in words and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketrec.page.blocks import Bar, Bars, Block, Chart, Facts, Table, Verdict
from pocketrec.page.charts import Series, picture
from pocketrec.page.log_view import how_read, leak_verdicts, new_items, over_time, popularity
from pocketrec.page.model_view import by_epoch, settings_table
from pocketrec.page.words import Figures, moment, number, percent, span


def rated_blocks(log: Figures) -> Iterator[Block]:
    users = log["sessions"]
    yield Facts(
        [
            ("ratings", f"{log['rows']:,}"), ("users", f"{users:,}"), ("items", f"{log['items']:,}"),
            ("from", moment(log["first_ms"])[:10]), ("to", moment(log["last_ms"])[:10]),
            ("ratings a user", f"{log['rows'] / users:.1f}"),
        ]
    )  # fmt: skip
    if values := log.get("values"):
        top, rows = max(values, key=lambda one: one["count"]), log["rows"]
        mean = sum(one["rating"] * one["count"] for one in values) / rows
        bars = [
            Bar(f"{one['rating']:.4g}", one["count"] / top["count"], f"{one['count']:,} ({percent(one['count'] / rows)})")
            for one in values
        ]
        title = f"The mean rating is {mean:.2f}; {top['rating']:.4g} was given most often"
        yield Bars(title, ("rating", "ratings"), bars)
    yield from over_time(log, "ratings")
    groups = [one for one in log["lengths"] if one["sessions"]]
    most = max(one["sessions"] for one in groups)
    bars = [
        Bar(span(one, "rating"), one["sessions"] / most, f"{one['sessions']:,} ({percent(one['sessions'] / users)})")
        for one in groups
    ]
    yield Bars(f"Half of the users gave {log['median_length']:,} ratings or fewer", ("a user's ratings", "users"), bars)
    yield from popularity(log, "ratings")
    yield new_items(log)
    yield from how_read(log)


def rating_split(name: str, split: Figures) -> Iterator[Block]:
    counts = [(one, split[one]) for one in ("train", "valid", "test") if one in split]
    whole = sum(count for _, count in counts) or 1
    titles = {"train": "training", "valid": "validation", "test": "test"}
    bars = [
        Bar(titles[one], count / whole, f"{count:,} ({percent(count / whole)})", tone)
        for tone, (one, count) in enumerate(counts, 1)
    ]
    yield Bars(f"{percent(split['test'] / whole)} of the ratings are held out for the test", ("set", "ratings"), bars)
    test = max(1, split["test"])
    if name == "ncf":
        cold = split["cold"]
        by_time = split["settings"].get("split") == "time"
        yield leak_verdicts(
            [
                Verdict("note" if cold else "clean",
                        f"{number(cold, 'item')} held out nobody has in the train set" if cold else "All items are known",
                        f"{cold:,} of {split['test']:,} ({percent(cold / test)}) are items of which nothing was learned."),
                Verdict("clean" if by_time else "note",
                        "All of the training is from before the test" if by_time else "Each user's last one is held out",
                        "The split is by one moment." if by_time else "Others' ratings from after it are trained on, as in "
                        "the published protocol: popularity of the future leaks into it. With --split time it does not."),
            ],
        )  # fmt: skip
    else:
        held = max(1, split["test"] + split["valid"])
        yield leak_verdicts(
            [
                Verdict("note" if split["new_users"] else "clean",
                        f"{number(split['new_users'], 'rating')} are of users that training does not have"
                        if split["new_users"] else "Training has all users of what is held out",
                        f"{percent(split['new_users'] / held)} of those held out."),
                Verdict("note" if split["new_items"] else "clean",
                        f"{number(split['new_items'], 'rating')} are of items that training does not have"
                        if split["new_items"] else "Training has all items of what is held out",
                        f"{percent(split['new_items'] / held)} of those held out; {split['unknown_items']:,} are not in "
                        "movies.csv either."),
                Verdict("clean" if split["settings"].get("split") == "time" else "note",
                        HELD_OUT[split["settings"].get("split", "random")],
                        "With --split time nothing is trained on that came after a test rating."),
            ],
        )  # fmt: skip
    yield settings_table("Settings of the split", split["settings"])


HELD_OUT = {
    "random": "Ratings are held out at random",
    "user": "A share of each user's ratings is held out at random",
    "time": "All of the training is from before the test",
}
"""The split of the DNN in words."""


def ncf_training(run: Figures) -> Iterator[Block]:
    epochs = run["epochs"]
    numbers, kept = [one["epoch"] for one in epochs], run["kept"]
    yield Facts([("epoch kept", f"{kept} of {len(epochs)}"), ("judged on", run["judged_on"])])
    losses = [one["loss"] for one in epochs]
    title = f"The loss fell from {losses[0]:.4f} to {losses[-1]:.4f} in {number(len(epochs), 'epoch')}"
    yield by_epoch(numbers, losses, kept, "loss", title, "mean loss, nats")
    judged = [one for one in epochs if one["metrics"]]
    if judged:
        x, hr, ndcg = ([one["epoch"] for one in judged], [one["metrics"]["hr"] for one in judged],
                       [one["metrics"]["ndcg"] for one in judged])  # fmt: skip
        popular = run["popularity"]
        drawn = picture(
            [Series("HR@10", "line", x, hr), Series("", "dots", x, hr), Series("NDCG@10", "line", x, ndcg, 2),
             Series("", "dots", x, ndcg, 2), Series("popularity, HR@10", "guide", x, [popular["hr"]] * len(x), 4)],
            [(one, str(one)) for one in x if len(x) <= 12 or one % -(-len(x) // 10) == 0],
            x_title="epoch", y_title=f"share of users, {run['negatives']} negatives",
        )  # fmt: skip
        title = f"HR@10 went from {hr[0]:.4f} to {hr[-1]:.4f}; popularity has {popular['hr']:.4f}"
        rows = [(str(one), f"{a:.4f}", f"{b:.4f}") for one, a, b in zip(x, hr, ndcg, strict=True)]
        yield Chart(title, drawn, Table("", ("epoch", "HR@10", "NDCG@10"), rows))
    yield settings_table("Settings of the training", run["settings"])


def ncf_accuracy(reports: Sequence[Figures]) -> Iterator[Block]:
    for report in reports:
        top = report["top"]
        heads = (("sampled", f"among {report['negatives']} negatives"), ("full", "among all unseen items"))
        for head, among in heads:
            ours, popular = report["network"][head], report["popularity"][head]
            if not ours:
                continue
            for measure, name in (("hr", f"HR@{top}"), ("ndcg", f"NDCG@{top}")):
                most = max(ours[measure], popular[measure]) or 1
                better = "beats" if ours[measure] > popular[measure] else "does not beat"
                bars = [
                    Bar(title, one[measure] / most, f"{one[measure]:.4f}", tone)
                    for title, one, tone in ((report["model"], ours, 1), ("popularity", popular, 4))
                ]
                note = f"{ours['users']:,} users, {report['on']} positives."
                title = f"{name} {among}: the network {better} popularity, {ours[measure]:.4f} to {popular[measure]:.4f}"
                yield Bars(title, ("recommender", name), bars, note)


def dnn_training(run: Figures) -> Iterator[Block]:
    epochs, kept = run["epochs"], run["kept"]
    name = "rmse" if "rmse" in epochs[0]["train"] else "cross_entropy"
    label = {"rmse": "RMSE, stars", "cross_entropy": "cross-entropy, nats"}[name]
    yield Facts([("epoch kept", f"{kept} of {len(epochs)}"), ("stopped early", "yes" if run["stopped"] else "no")])
    x, train = [one["epoch"] for one in epochs], [one["train"][name] for one in epochs]
    series = [Series("training, with dropout", "line", x, train, 4), Series("", "dots", x, train, 4)]
    rows = [[str(one["epoch"]), f"{one['train'][name]:.4f}"] for one in epochs]
    title = f"The error of training fell from {train[0]:.4f} to {train[-1]:.4f}"
    if all(one["valid"] for one in epochs):
        valid = [one["valid"][name] for one in epochs]
        series += [Series("validation", "line", x, valid), Series("", "dots", x, valid)]
        series.append(Series("the epoch that is kept", "dots", [kept], [valid[kept - 1]], 2))
        title = f"Epoch {kept} predicts validation best: {valid[kept - 1]:.4f} {label.split(', ')[1]}"
        for row, value in zip(rows, valid, strict=True):
            row.append(f"{value:.4f}")
    ticks = [(one, str(one)) for one in x if len(x) <= 12 or one % -(-len(x) // 10) == 0]
    drawn = picture(series, ticks, x_title="epoch", y_title=label, from_zero=False)
    head = ("epoch", "training", "validation")[: len(rows[0])]
    yield Chart(title, drawn, Table("", head, rows))
    yield settings_table("Settings of the training", run["settings"])


def dnn_accuracy(reports: Sequence[Figures]) -> Iterator[Block]:
    for report in reports:
        models = report["models"]
        for measure, name in (("rmse", "RMSE"), ("mae", "Mean absolute error")):
            ours = models["dnn"][measure]
            rival = min((other for other in models if other != "dnn"), key=lambda one: models[one][measure])
            most = max(one[measure] for one in models.values())
            bars = [
                Bar(title, one[measure] / most, f"{one[measure]:.4f} stars", 1 if title == "dnn" else 4)
                for title, one in models.items()
            ]
            better = "beats" if ours < models[rival][measure] else "does not beat"
            title = f"{name}: the network ({ours:.4f} stars) {better} {rival} ({models[rival][measure]:.4f})"
            yield Bars(title, ("model", name), bars, f"{report['ratings']:,} ratings of {report['on']}; less is better.")
        if len(report.get("spread", ())) > 1:
            yield _spread(report["spread"])


def _spread(spread: Sequence[Figures]) -> Block:
    x = [one["rating"] for one in spread]
    mean, low, high = ([one[name] for one in spread] for name in ("mean", "low", "high"))
    ends = [x[0], x[-1]]
    drawn = picture(
        [Series("8 of 10 predictions", "band", x, high, 1, low), Series("mean prediction", "line", x, mean),
         Series("", "dots", x, mean), Series("predicted = given", "guide", ends, ends, 4)],
        [(one, f"{one:.3g}") for one in x[:: -(-len(x) // 10)]],
        x_title="rating that was given, stars", y_title="rating that was predicted, stars", from_zero=False,
    )  # fmt: skip
    rows = [
        (f"{one['rating']:.3g}", f"{one['count']:,}", *(f"{one[name]:.2f}" for name in ("mean", "low", "middle", "high")))
        for one in spread
    ]
    head = ("given", "ratings", "mean prediction", "a tenth is below", "half is below", "a tenth is above")
    title = f"Where {x[0]:.3g} was given {mean[0]:.2f} is predicted, where {x[-1]:.3g} was given {mean[-1]:.2f}"
    return Chart(title, drawn, Table("", head, rows))
