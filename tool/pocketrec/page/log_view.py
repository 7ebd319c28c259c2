"""The log, the funnel and the split in words and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pocketrec.durations import exact_duration
from pocketrec.page.blocks import Bar, Bars, Block, Chart, Facts, Flow, Notice, Step, Table, Verdict, Verdicts, Week
from pocketrec.page.charts import Series, picture, rank_ticks, time_ticks
from pocketrec.page.words import NARROW, Figures, duration, moment, number, percent, sentence, span
from pocketrec.storage.space import size

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SET_TITLES = {"train_tr": "train", "train_valid": "validation", "test": "test"}
MANY = 0.02
"""Share of the test from which a leak is called one."""


def log_blocks(log: Figures) -> Iterator[Block]:
    rows, sessions = log["rows"], log["sessions"]
    yield Facts(
        [
            ("clicks", f"{rows:,}"),
            ("sessions", f"{sessions:,}"),
            ("items", f"{log['items']:,}"),
            ("from", moment(log["first_ms"])),
            ("to", f"{moment(log['last_ms'])} UTC"),
            ("clicks a session", f"{rows / sessions:.1f}"),
        ]
    )
    yield from over_time(log, "clicks")
    if log["last_ms"] - log["first_ms"] > 7 * 24 * 3_600_000:
        yield _week(log["week"])
    yield _lengths(log)
    if any(one["pairs"] for one in log["gaps"]):
        yield _gaps(log)
    yield from popularity(log, "clicks")
    yield new_items(log)
    yield _repeats(log)
    yield from how_read(log)


def _times(log: Figures) -> tuple[list[int], str]:
    """The begin of each bin, in ms, and how long one is in words."""
    hours = log["time"]["bin_hours"]
    begins = [log["time"]["first_ms"] + at * hours * 3_600_000 for at in range(len(log["time"]["clicks"]))]
    return begins, {1: "an hour", 24: "a day", 168: "a week"}.get(hours, f"{duration(hours * 3_600_000)}")


def over_time(log: Figures, what: str) -> Iterator[Block]:
    begins, each = _times(log)
    counts = log["time"]["clicks"]
    if len(counts) < 2:
        return
    top = max(range(len(counts)), key=counts.__getitem__)
    shown = _moment_of_bin(begins[top], log)
    when = f"on {shown}" if log["time"]["bin_hours"] == 24 else f"in {each} from {shown} on"
    title = f"Most {what} came {when}: {counts[top]:,}"
    drawn = picture(
        [Series("", "area", begins, counts), Series("", "line", begins, counts)],
        time_ticks(begins[0], begins[-1]),
        x_title="time, UTC",
        y_title=f"{what} in {each}",
    )
    rows = [(_moment_of_bin(begin, log), f"{count:,}") for begin, count in zip(begins, counts, strict=True)]
    yield Chart(title, drawn, Table("", (f"from, {each} long", what), rows), "The first and the last may not be whole.")


def _moment_of_bin(ms: int, log: Figures) -> str:
    text = moment(ms)
    return text if log["time"]["bin_hours"] < 24 else text[:10]


def _week(week: Sequence[Sequence[int]]) -> Block:
    most = max(max(row) for row in week) or 1
    hours = [sum(row[hour] for row in week) for hour in range(24)]
    busiest = max(range(24), key=hours.__getitem__)
    total = sum(hours) or 1
    quiet = min(range(24), key=hours.__getitem__)
    title = f"The busiest hour of the day is {busiest:02}:00 UTC ({percent(hours[busiest] / total)} of the clicks)"
    rows = [(day, [count / most for count in row]) for day, row in zip(DAYS, week, strict=True)]
    table = Table("", ("hour", *(day[:3] for day in DAYS)), [
        (f"{hour:02}:00", *(f"{week[day][hour]:,}" for day in range(7))) for hour in range(24)
    ])  # fmt: skip
    note = f"Each cell is an hour of the week, in UTC; the darker, the more clicks. The quietest is {quiet:02}:00."
    return Week(title, rows, table, note)


def _lengths(log: Figures) -> Block:
    groups, sessions = [one for one in log["lengths"] if one["sessions"]], log["sessions"]
    most = max(one["sessions"] for one in groups)
    single = next((one["sessions"] for one in groups if one["most"] == 1), 0)
    title = f"Half of the sessions have {log['median_length']:,} clicks or fewer; the longest has {log['longest']:,}"
    bars = [
        Bar(span(one, "click"), one["sessions"] / most, f"{one['sessions']:,} ({percent(one['sessions'] / sessions)})")
        for one in groups
    ]
    note = f"{single:,} sessions have a single click, so nothing comes next in them." if single else ""
    return Bars(title, ("length", "sessions"), bars, note)


def _gaps(log: Figures) -> Block:
    groups = log["gaps"]
    pairs = sum(one["pairs"] for one in groups)
    most = max(one["pairs"] for one in groups)
    title = f"Half of the clicks come within {duration(log['median_gap_ms'])} after the one before"
    bars = [
        Bar(
            "the same moment" if one["most"] == 0 else f"{duration(one['least'])} or more" if one["most"] is None
            else f"less than {duration(one['most'] + 1)}",
            one["pairs"] / most, f"{one['pairs']:,} ({percent(one['pairs'] / pairs)})",
        )
        for one in groups if one["pairs"] or one["most"] is not None
    ]  # fmt: skip
    note = "Time between two clicks of a session. Each row has what the rows above it do not have."
    return Bars(title, ("time between", "pairs of clicks"), bars, note)


def popularity(log: Figures, what: str) -> Iterator[Block]:
    found, items = log["popularity"], log["items"]
    half = found["items_of_half"]
    title = (
        f"Half of the {what} are on {percent(half / items)} of the items" if items > 1 else f"All {what} are on one item"
    )
    drawn = picture(
        [Series("", "line", found["ranks"], found["clicks"]), Series("", "dots", found["ranks"], found["clicks"])],
        rank_ticks(items),
        x_title="rank of the item, the most popular first (logarithmic)",
        y_title=f"{what} (logarithmic)",
        log=True,
    )
    rows = [(f"{rank:,}", f"{count:,}") for rank, count in zip(found["ranks"], found["clicks"], strict=True)]
    once = found["once"]
    note = (
        f"{number(half, 'item')} of {items:,} have half of the {what}; the top 1{NARROW}% of the items have "
        f"{percent(found['share_of_top_percent'])}. {number(once, 'item')} ({percent(once / items)}) have one only."
    )
    yield Chart(title, drawn, Table("", ("rank", what), rows), note)
    top = [(one["item"], f"{one['clicks']:,}", percent(one["clicks"] / log["rows"])) for one in found["top"]]
    yield Table(f"The most popular item has {top[0][2]} of the {what}", ("item", what, "share"), top, ids=(0,))


def new_items(log: Figures) -> Block:
    begins, each = _times(log)
    total, seen = 0, []
    for count in log["time"]["new_items"]:
        total += count
        seen.append(100 * total / log["items"])
    half = next((at for at, share in enumerate(seen) if share >= 50), 0)
    last = log["time"]["new_items"][len(seen) // 2 :]
    title = (
        f"Half of the items had been seen by {_moment_of_bin(begins[half], log)}; "
        f"{percent(sum(last) / log['items'])} came in the second half of the time"
    )
    drawn = picture(
        [Series("", "line", begins, seen)], time_ticks(begins[0], begins[-1]),
        x_title="time, UTC", y_title="share of all items seen so far", unit=NARROW + "%",
    )  # fmt: skip
    rows = [
        (_moment_of_bin(begin, log), f"{new:,}", f"{share:.1f}{NARROW}%")
        for begin, new, share in zip(begins, log["time"]["new_items"], seen, strict=True)
    ]
    return Chart(title, drawn, Table("", (f"from, {each} long", "new items", "seen so far"), rows))


def _repeats(log: Figures) -> Block:
    rows = log["rows"]
    title = f"{percent(log['again'] / rows)} of the clicks are on an item that the session had already"
    parts = (
        ("an item again", log["again"]),
        ("right after itself", log["directly_again"]),
        ("the same row again", log["repeated_rows"]),
    )
    bars = [Bar(label, count / rows, f"{count:,} ({percent(count / rows)})", 2) for label, count in parts]
    return Bars(
        title,
        ("what is repeated", "clicks"),
        bars,
        "Shares of all clicks. The same row: session, item and time are those of another.",
    )


def how_read(log: Figures) -> Iterator[Block]:
    ingest = log["ingest"]
    if log["set_aside"]:
        share = percent(ingest["set_aside"] / ingest["lines"])
        aside = [
            (one["reason"], f"{one['lines']:,}", "\n".join(f"{it['line']:,}: {it['text']}" for it in one["examples"]))
            for one in log["set_aside"]
        ]
        title = f"{ingest['set_aside']:,} of {ingest['lines']:,} rows ({share}) were set aside"
        yield Table(title, ("reason", "rows", "examples, each behind its line"), aside, ids=(2,), wide=True)
    if len(log["files"]) > 1:
        rows = [(one["name"], size(one["bytes"]) if one["bytes"] is not None else "gone") for one in log["files"]]
        yield Table(f"{len(rows):,} files are one log, in this order", ("file", "size"), rows, ids=(0,))
    if ingest["remarks"]:
        yield Table("How it was read", ("remark",), [(one,) for one in ingest["remarks"]])


# The funnel


def funnel_blocks(found: Figures) -> Iterator[Block]:
    ingest, split = found["log"]["data"]["ingest"], found["split"]["data"]
    steps: list[tuple[str, int, str]] = [("rows in the log", ingest["lines"], "")]
    if ingest["set_aside"]:
        steps.append(("rows that are clicks", steps[-1][1] - ingest["set_aside"], "are not clicks: set aside"))
    if ingest["left_out"]:
        steps.append(("clicks that were asked for", ingest["rows"], "were left out by --where"))
    if split:
        steps += _split_steps(split, found["batches"]["data"])
    first = max(1, steps[0][1])
    drawn = [
        Step(label, f"{count:,}", count / first, f"{before - count:,}" if why else "", why)
        for (label, count, why), (_, before, _) in zip(steps, [steps[0], *steps], strict=False)
    ]
    last = steps[-1]
    yield Flow(f"Of {steps[0][1]:,} rows {last[1]:,} ({percent(last[1] / first)}) are left as {last[0]}", drawn)
    if not split:
        yield Notice("Not there yet", "The rest of the funnel is not known.", found["split"]["command"])
    elif not found["batches"]["data"]:
        yield Notice("Not there yet", sentence(found["batches"]["why"]), found["batches"]["command"])
    else:
        yield _all_batches(found["batches"]["data"])


def _split_steps(split: Figures, batches: Sequence[Figures] | None) -> Iterator[tuple[str, int, str]]:
    sets, rules, filters = split["sets"], split["settings"], split["filters"]
    full, test = sets["train_full"]["events"], sets["test"]["events"]
    fewest, support = rules.get("min_session_length", 2), rules.get("min_item_support", 5)
    if filters:
        yield (
            f"clicks in sessions of {fewest} or more",
            filters["long_sessions"],
            f"in sessions of fewer than {fewest}",
        )
        yield (
            f"clicks on items with {support} or more",
            filters["frequent_items"],
            f"on items with fewer than {support}",
        )
        yield "clicks in sessions that are still long enough", filters["left"], f"in sessions with fewer than {fewest} left"
        yield "clicks in train and test", full + test, "of the test, on items that train does not have"
    else:
        yield "clicks in train and test", full + test, "by the filters of the split"
    yield "clicks before the test", full, "held out for the test"
    on = batches[0]["settings"].get("train_on", "train_tr") if batches else "train_tr"
    if on == "train_tr":
        train, valid = sets["train_tr"]["events"], sets["train_valid"]["events"]
        unknown = full - train - valid
        why = "held out for validation" + (f", {unknown:,} of these on items that train does not have" if unknown else "")
        yield "clicks to train on", train, why
    if batches:
        one = batches[0]["sets"]["train_tr"]
        yield "pairs of a click and the next one", one["transitions"] + one["dropped"], "are the first of their session"
        yield (
            f"pairs in batches of {batches[0]['batch_size']:,}", one["transitions"],
            "dropped at the tail, where sessions run out",
        )  # fmt: skip


def _all_batches(batches: Sequence[Figures]) -> Block:
    rows = [
        (
            f"{one['batch_size']:,}", title, f"{counts['steps']:,}", f"{counts['transitions']:,}",
            f"{counts['dropped']:,}" + (f" ({percent(counts['dropped'] / whole)})" if whole else ""),
            f"{counts['unknown']:,}",
        )
        for one in batches for name, title in SET_TITLES.items()
        for counts in [one["sets"][name]] for whole in [counts["transitions"] + counts["dropped"]]
    ]  # fmt: skip
    dropped = batches[0]["sets"]["train_tr"]["dropped"]
    title = f"The tail dropped {dropped:,} pairs of the train set" if dropped else "The tail dropped no pair to train on"
    head = ("lanes", "set", "steps", "pairs", "dropped", "clicks on unknown items")
    return Table(title, head, rows)


# The split


def split_blocks(split: Figures, found: Figures) -> Iterator[Block]:
    sets, rules = split["sets"], split["settings"]
    test = sets["test"]
    yield Facts(
        [
            *((f"clicks to {title}" if title == "train" else f"clicks of the {title}", f"{sets[name]['events']:,}")
              for name, title in SET_TITLES.items()),
            ("sessions of the test", f"{test['sessions']:,}"),
            *([("held out", exact_duration(rules["holdout"]))] if isinstance(rules.get("holdout"), float) else []),
        ]
    )  # fmt: skip
    log = found["log"]["data"]
    if log and "time" in split:
        yield from _axis(split, log)
        verdicts = list(_verdicts(split, found))
        yield leak_verdicts(verdicts)


def leak_verdicts(verdicts: Sequence[Verdict]) -> Verdicts:
    """Verdicts on leaks, under what they come to."""
    leaks = sum(one.verdict == "leak" for one in verdicts)
    notes = sum(one.verdict == "note" for one in verdicts)
    found = f"{number(leaks, 'leak')} found" if leaks else "No leak found"
    return Verdicts(found + (f"; {number(notes, 'thing')} to know" if notes else ""), verdicts)


def _axis(split: Figures, log: Figures) -> Iterator[Block]:
    begins, each = _times(log)
    if len(begins) < 2:
        return
    series = [
        Series(title, "line", begins, split["time"][name], tone)
        for tone, (name, title) in enumerate(SET_TITLES.items(), 1) if any(split["time"][name])
    ]  # fmt: skip
    if not series:
        return
    last, first = split["last_train_ms"], split["first_test_ms"]
    apart = last is not None and first is not None and first > last
    title = (
        f"The test begins {duration(first - last)} after the last training click" if apart else
        "Train and test overlap in time" if first is not None else "There is no test"
    )  # fmt: skip
    drawn = picture(series, time_ticks(begins[0], begins[-1]), x_title="time, UTC", y_title=f"clicks in {each}")
    rows = [
        (_moment_of_bin(begin, log), *(f"{split['time'][name][at]:,}" for name in SET_TITLES))
        for at, begin in enumerate(begins)
    ]
    note = ""
    if first is not None and last is not None:
        note = f"Last click of training: {moment(last, True)}; first click of the test: {moment(first, True)} UTC."
    yield Chart(title, drawn, Table("", (f"from, {each} long", *SET_TITLES.values()), rows), note, wide=True)


def _verdicts(split: Figures, found: Figures) -> Iterator[Verdict]:
    test, sessions = split["sets"]["test"], max(1, split["test_sessions"])
    events = max(1, test["events"])

    def judge(count: int, of: int, clean: str, title: str, text: str) -> Verdict:
        state = "clean" if not count else "leak" if count / of >= MANY else "note"
        return Verdict(state, clean if not count else title, text)

    both = split["sessions_in_both"] + split["valid_in_train"]
    yield Verdict(
        "leak" if both else "clean", f"{number(both, 'session')} in two sets" if both else "No session is in two sets",
        f"{split['sessions_in_both']:,} are in train and test, {split['valid_in_train']:,} in train and validation.",
    )  # fmt: skip
    early = split["early_test_sessions"]
    yield judge(
        early, sessions, "Every test session begins after the last training click",
        f"{number(early, 'test session')} began before training ended",
        f"{early:,} of {split['test_sessions']:,} ({percent(early / sessions)}): a session goes into the test by its last "
        "click, so its first ones may be from the time of the training.",
    )  # fmt: skip
    shared = split["test_shares_second"]
    if shared is None:
        yield Verdict("note", "Shared seconds were not counted", "Train and test overlap for more than two years.")
    else:
        yield judge(
            shared, sessions, "No test session shares a second with the training",
            f"{number(shared, 'test session')} share a second with the training",
            f"{shared:,} of {split['test_sessions']:,} have a click in a second in which a training session has one, too.",
        )  # fmt: skip
    twice = split["repeated_rows"]["test"]
    yield judge(
        twice, events, "No row of the test is there twice", f"{number(twice, 'row')} of the test are there twice",
        f"{twice:,} of {test['events']:,} clicks ({percent(twice / events)}) repeat session, item and time of another: who "
        "guesses the last item again is right there.",
    )  # fmt: skip
    same = split["test_same_time"]
    yield judge(
        same, events, "All clicks of a test session have times of their own",
        f"{number(same, 'click')} of the test have the time of the one before",
        f"{same:,} of {test['events']:,} ({percent(same / events)}): what came next is known by the order of rows.",
    )  # fmt: skip
    yield from _unknown(split, found)


def _unknown(split: Figures, found: Figures) -> Iterator[Verdict]:
    filters, sets = split["filters"], split["sets"]
    if filters:
        lost = filters["left"] - sets["train_full"]["events"] - sets["test"]["events"]
        whole = lost + sets["test"]["events"]
        yield Verdict(
            "note" if lost else "clean",
            f"{number(lost, 'click')} of the test were left out" if lost else "Training knows every item of the test",
            f"{lost:,} of {whole:,} ({percent(lost / max(1, whole))}) are on items that train does not have, or were left "
            "alone in their session: a model is not asked for what it cannot know, and its figures are that much too good.",
        )  # fmt: skip
    for one in (found["batches"]["data"] or [])[:1]:
        on = one["settings"].get("train_on", "train_tr")
        unknown = one["sets"]["test"]["unknown"]
        if unknown:
            text = f"Their items are in the validation set only, and training is on {on}."
            yield Verdict("note", f"{number(unknown, 'further click')} of the test are not measured", text)
        if on == "train_full":
            yield Verdict("note", "The validation set is trained on", "Figures on train_valid say nothing: ask for test.")
