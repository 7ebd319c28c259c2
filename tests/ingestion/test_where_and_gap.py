"""Filters, sessions by a gap, keys of two columns and several files, against pandas, in every form a log can have."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import call
from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.parts import Parts, read_frame
from pocketrec.sessions.options import SplitSettings
from pocketrec.sessions.split import split
from pocketrec.sources.logs import LineLog
from pocketrec.sources.options import GapOver, ReadSettings
from pocketrec.sources.parquet import TableLog
from pocketrec.storage.layout import Dataset
from pocketrec.storage.verify_data import verify_data

BEGIN = 1_400_000_000_000
FORMS = ("csv", "tsv", "json", "nested", "parquet")
USERS = st.sampled_from(["7", "12", "3", "a b", "a+b", "a", "+b", "x\\"])
ROW = st.fixed_dictionaries(
    {
        "user": USERS,
        "place": st.sampled_from(["1", "b", "+b", "+"]),
        "item": st.sampled_from(["5", "06", "10", "k", ""]),
        "ms": st.integers(0, 40).map(lambda step: BEGIN + step * 500_000),
        "kind": st.sampled_from(["view", "cart", "buy", ""]),
    }
)


def oracle(
    rows: list[dict[str, Any]], keys: list[str], kinds: list[str], gap_ms: int | None, over_all: bool
) -> tuple[pd.DataFrame, int, list[int]]:
    """The clicks (key, session, item, ms) in the order of the log, how many rows are left out, which are bad."""
    log = pd.DataFrame(rows).reset_index(names="place_in_log")
    kept = log["kind"].isin(kinds) if kinds else pd.Series(True, index=log.index)
    bad = kept & (log["item"] == "")
    log["kept"] = kept
    seen = log[~bad] if over_all else log[kept & ~bad]
    seen = seen.assign(key=list(zip(*(seen[key] for key in keys), strict=True)))
    numbered = seen.assign(session=0)
    if gap_ms is not None:
        # Users that are all whole numbers go by their size, others by the bytes of their text.
        names = {key: "+".join(part.replace("\\", "\\\\").replace("+", "\\+") for part in key) if len(key) > 1 else key[0]
                 for key in numbered["key"]}  # fmt: skip
        whole = all(name.isdigit() for name in names.values())
        order = numbered["key"].map(lambda key: int(names[key]) if whole else names[key].encode())
        numbered = numbered.assign(order=order).sort_values(["order", "ms", "place_in_log"], kind="stable")
        begins = (numbered["order"] != numbered["order"].shift()) | (numbered["ms"].diff() > gap_ms)
        numbered["session"] = begins.cumsum()
        numbered = numbered[numbered["kept"]]
        numbered["session"] = (numbered["session"] != numbered["session"].shift()).cumsum()
    numbered = numbered[numbered["kept"]].sort_values("place_in_log")
    return numbered[["key", "session", "item", "ms"]], int((~kept).sum()), list(log.index[bad])


def write(folder: Path, form: str, rows: list[dict[str, Any]], name: str) -> None:
    if form in ("csv", "tsv"):
        sign = "," if form == "csv" else "\t"
        lines = [f"kind{sign}ms{sign}user{sign}place{sign}item"]
        lines += [sign.join(str(row[column]) for column in ("kind", "ms", "user", "place", "item")) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n")
    elif form == "json":
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "nested":  # each row its own list, but for neighbours of one user
        groups: list[tuple[str, list[dict[str, Any]]]] = []
        for row in rows:
            if not groups or groups[-1][0] != row["user"]:
                groups.append((row["user"], []))
            groups[-1][1].append({name: row[name] for name in ("place", "item", "ms", "kind")})
        (folder / name).write_text("".join(json.dumps({"user": user, "e": some}) + "\n" for user, some in groups))
    else:
        frame = pl.DataFrame(
            rows, schema={"user": pl.String, "place": pl.String, "item": pl.String, "ms": pl.Int64, "kind": pl.String}
        )
        frame.write_parquet(folder / name)


def read(root: Path) -> pl.DataFrame:
    parts = Parts(Dataset(root))
    names = list(pl.scan_parquet(next(parts.folders[0].iterdir()), glob=False).collect_schema())
    frames = [read_frame(part, names) for part in parts.folders]
    edges = [edge for frame in frames for edge in (frame["session"].min(), frame["session"].max())]
    assert edges == sorted(edges)  # type: ignore[type-var]
    assert all(before < after for before, after in zip(edges[1::2], edges[2::2], strict=False))  # type: ignore[operator]
    frame = pl.concat(frames).sort("row")
    assert frame["row"].to_list() == list(range(len(frame)))
    return frame


@settings(max_examples=60)
@given(
    rows=st.lists(ROW, min_size=1, max_size=30),
    form=st.sampled_from(FORMS),
    keys=st.sampled_from([["user"], ["user", "place"]]),
    kinds=st.sampled_from([[], ["view"], ["view", "buy"]]),
    gap=st.sampled_from([None, 500, 1500]),
    over=st.sampled_from(["kept", "all"]),
    files=st.integers(1, 3),
    rows_a_part=st.sampled_from([3, 1 << 19]),
    way=st.sampled_from(["sampled", "hardly sampled", "spooled"]),
)
def test_as_pandas_does_it(
    rows: list[dict[str, Any]], form: str, keys: list[str], kinds: list[str], gap: int | None, over: GapOver, files: int,
    rows_a_part: int, way: str,
) -> None:  # fmt: skip
    over = over if kinds and gap else "kept"
    expected, left_out, bad = oracle(rows, keys, kinds, None if gap is None else gap * 1000, over == "all")
    inside = "e." if form == "nested" else ""
    columns = {
        "session": "+".join(f"{'' if key == 'user' else inside}{key}" for key in keys),
        "item": f"{inside}item",
        "time": f"{inside}ms",
    }
    reading = ReadSettings(
        columns=columns, where=(f"{inside}kind={','.join(kinds)}",) if kinds else (), session_gap=gap, gap_over=over,
        bad_rows="set-aside",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketrec.ingestion.write_parts.ROWS_PER_PART", rows_a_part)
        patch.setattr("pocketrec.sources.streams.BLOCK_BYTES", 200)
        patch.setattr("pocketrec.sources.parquet.ROWS_PER_READ", 4)
        patch.setattr("pocketrec.ingestion.spool.SPOOL_ROWS", 5)
        if way == "hardly sampled":
            patch.setattr("pocketrec.sources.logs.SAMPLES", 1)
            patch.setattr("pocketrec.sources.logs.SAMPLE_BYTES", 60)
            patch.setattr("pocketrec.sources.parquet.SLICES", 1)
            patch.setattr("pocketrec.sources.parquet.ROWS_PER_SLICE", 1)
        if way == "spooled":
            for reader in (LineLog, TableLog):
                patch.setattr(reader, "sample", lambda *_: None)
        log, root = Path(folder) / "log", Path(folder) / "d"
        log.mkdir()
        size = -(-len(rows) // files)
        for number in range(files):
            if some := rows[number * size : (number + 1) * size]:
                write(log, form, some, f"part-{number + 9}")  # 9, 10, 11: not in the order of their bytes
        (log / "_SUCCESS").touch()
        (log / ".part-9.crc").write_bytes(b"crc")
        if form == "nested" and bad:  # a line is set aside whole, with clicks that would be kept in other forms
            with contextlib.suppress(LogError):  # none may be left
                report = ingest(log, root, reading)
                assert report.rows + report.left_out + report.set_aside == report.lines
            return
        if not len(expected):
            with pytest.raises(LogError, match=r"--where leaves none|of 1 lines|is a click|none of"):
                ingest(log, root, reading)
            return
        report = ingest(log, root, reading)
        assert (report.rows, report.left_out, report.set_aside) == (len(expected), left_out, len(bad))
        assert report.lines == len(rows)
        found = read(root)
        assert found["time"].to_list() == expected["ms"].tolist()
        items = found["item_id"] if "item_id" in found.columns else found["item"].cast(pl.String)
        assert items.to_list() == expected["item"].tolist()
        named = found["session_id"] if "session_id" in found.columns else found["session"]
        texts = named.cast(pl.String).to_list()
        assert len(set(zip(texts, expected["key"], strict=True))) == len(set(texts)) == expected["key"].nunique()
        if len(keys) == 1:
            assert texts == [key[0] for key in expected["key"]]
        if gap is not None:
            assert found["session"].to_list() == expected["session"].tolist()
        assert report.sessions == found["session"].n_unique()
        assert verify_data(root).passed
        assert ingest(log, root, reading).reused


def test_ids_that_a_sample_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log whose one text is at its end is read once more, and what was begun is gone."""
    monkeypatch.setattr("pocketrec.sources.logs.SAMPLES", 1)
    monkeypatch.setattr("pocketrec.sources.logs.SAMPLE_BYTES", 500)
    monkeypatch.setattr("pocketrec.sources.streams.BLOCK_BYTES", 2000)
    lines = [f"{user},{user * 7},{BEGIN + user * 1000}" for user in range(10_000, 11_000)]
    (tmp_path / "log.csv").write_text("user,item,ms\nnot,a,click\n" + "\n".join([*lines, f"11000,x,{BEGIN}"]) + "\n")
    reading = ReadSettings(columns={"session": "user", "item": "item", "time": "ms"}, bad_rows="set-aside")
    report = ingest(tmp_path / "log.csv", tmp_path / "d", reading)
    assert (report.lines, report.rows, report.set_aside, report.text_ids) == (1002, 1001, 1, ("item",))
    assert read(tmp_path / "d")["item_id"].to_list() == [*(str(user * 7) for user in range(10_000, 11_000)), "x"]
    assert verify_data(tmp_path / "d").passed
    assert sorted(path.name for path in (tmp_path / "d" / "parquet").iterdir()) == [
        "clicks", "item_ids.parquet", "manifest.json",
    ]  # fmt: skip


def test_ids_of_rows_that_are_left_out_say_nothing(tmp_path: Path) -> None:
    """Sessions that are kept are numbers, those of other rows are text: no text ids came in, sampled or not."""
    rows = {"s": ["7", "x", "9", "y"], "i": [1, 2, 3, 4], "t": [BEGIN, BEGIN, BEGIN, BEGIN], "kind": ["v", "b", "v", "b"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    for name in ("log.parquet", "log.csv"):
        reading = ReadSettings(columns={"session": "s", "item": "i", "time": "t"}, where=("kind=v",))
        report = ingest(tmp_path / name, tmp_path / f"d-{name}", reading)
        assert (report.rows, report.left_out, report.text_ids) == (2, 2, ())
        assert read(tmp_path / f"d-{name}")["session"].to_list() == [7, 9]


def test_cut_sessions_are_what_the_later_stages_see(tmp_path: Path) -> None:
    """The txt has the number of the session, not the user; two of a user are two."""
    lines = [f"u{user},{item},{BEGIN + day * 86_400_000 + step * 1000}" for user in range(6) for day in range(4)
             for step, item in enumerate("ab")]  # fmt: skip
    (tmp_path / "log.csv").write_text("user,item,ms\n" + "\n".join(lines) + "\n")
    reading = ReadSettings(columns={"session": "user", "item": "item", "time": "ms"}, session_gap=3600.0)
    assert ingest(tmp_path / "log.csv", tmp_path / "d", reading).sessions == 24
    split(tmp_path / "d", SplitSettings(min_item_support=1, holdout=80_000.0))
    table = pd.read_csv(tmp_path / "d" / "rsc15" / "rsc15_train_full.txt", sep="\t", dtype=str)
    assert table["SessionId"].nunique() == 18
    assert set(table["ItemId"]) == {"a", "b"}


def test_a_row_that_is_left_out_may_lack_what_a_click_has(tmp_path: Path) -> None:
    """Coveo's page views have no product; a row that counts for the gap needs a user and a time."""
    (tmp_path / "log").write_text("u,i,t,k\n1,5,1400000000,a\n1,,1400000000,b\n1,,,b\n,,,b\n1,6,1400000001,a\n")
    columns = {"session": "u", "item": "i", "time": "t"}
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=columns, where=("k=a",)))
    assert (report.rows, report.left_out, report.set_aside, report.lines) == (2, 3, 0, 5)
    reading = ReadSettings(columns=columns, where=("k=a",), session_gap=9.0, gap_over="all", bad_rows="set-aside")
    report = ingest(tmp_path / "log", tmp_path / "d", reading)
    assert (report.rows, report.left_out, report.set_aside, report.lines) == (2, 1, 2, 5)


def test_what_is_asked_for_and_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("u,i,t,k\n1,5,1400000000,a\n1,6,1400000000,b\n")
    columns = {"session": "u", "item": "i", "time": "t"}
    with pytest.raises(LogError, match="--where leaves none of the 2 rows") as error:
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=columns, where=("k=c",)))
    assert error.value.expected == "values that there are: k has a, b"
    with pytest.raises(LogError, match="called 'kind'"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=columns, where=("kind=a",)))
    for wrong in ({"where": ("k",)}, {"where": ("=a",)}, {"gap_over": "all"}, {"session_gap": 0.0}):
        with pytest.raises(SettingsError):
            ReadSettings(columns=columns, **wrong)
    with pytest.raises(SettingsError, match="session_gap is given, and columns are not"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(session_gap=60.0))
    with pytest.raises(SettingsError, match="in an unknown unit"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns={**columns, "time": "t+k"}))


def test_a_folder_that_holds_the_dataset_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("1,2014-04-07T10:51:09.277Z,5,0\n")
    assert ingest(tmp_path / "log", tmp_path / "d").rows == 1
    with pytest.raises(LogError, match="holds the dataset folder"):
        ingest(tmp_path, tmp_path / "d")
    with pytest.raises(LogError, match="holds the dataset folder"):
        ingest([tmp_path / "log", tmp_path / "d"], tmp_path / "d")


def test_several_files_are_one_log(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        (tmp_path / f"clicks_{number}.csv").write_text(f"s,i,t\n{number},7,140000000{number % 9}\n,8,1400000000\n")
    columns = ("--columns", "session=s,item=i,time=t", "--bad-rows", "set-aside", "--dataset", tmp_path / "d")
    code, out, err = call(
        "ingest", tmp_path / "clicks_10.csv", tmp_path / "clicks_1.csv", tmp_path / "clicks_2.csv", *columns
    )
    assert code == 0, err
    assert "3 files are one log, read in this order: clicks_1.csv, clicks_2.csv, clicks_10.csv" in err
    assert "3 clicks, 3 sessions" in out
    assert read(tmp_path / "d")["session"].to_list() == [1, 2, 10]
    aside = (tmp_path / "d" / "rejects.csv").read_text().splitlines()[1:]
    assert aside == [
        f'3,clicks_{n}.csv: the s is empty,",8,1400000000"'.replace("the s", "the session") for n in (1, 2, 10)
    ]
    for same in (
        [tmp_path / "clicks_*.csv"],
        [tmp_path / "clicks_2.csv", tmp_path / "clicks_1.csv", tmp_path / "clicks_10.csv"],
    ):
        assert "up to date" in call("ingest", *same, *columns)[1]
    (tmp_path / "clicks_2.csv").write_text("s,i,t\n2,9,1400000002\n,8,1400000000\n")
    assert "up to date" not in call("ingest", tmp_path / "clicks_*.csv", *columns)[1]
    code, _, err = call("ingest", tmp_path / "clicks_1.csv", tmp_path / "clicks_1.csv", *columns)
    assert (code, "is there more than once" in err) == (1, True)
    code, _, err = call("ingest", tmp_path / "no*.csv", *columns)
    assert (code, "no file matches" in err) == (1, True)
    (tmp_path / "clicks_3.csv").touch()
    (tmp_path / "clicks_4.csv").write_text("s,i,t\n")
    code, out, err = call("ingest", tmp_path / "clicks_*.csv", *columns)
    assert (code, "5 files are one log" in err, "3 clicks, 3 sessions" in out) == (0, True, True), err
    (tmp_path / "clicks_1.csv").write_text("s,x,t\n1,7,1400000000\n")
    code, _, err = call("ingest", tmp_path / "clicks_*.csv", *columns)
    assert (code, "clicks_1.csv has no column" in err) == (1, True)


def test_a_file_that_changes_while_several_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pocketrec.ingestion import ingest as module

    for name in "ab":
        (tmp_path / name).write_text("s,i,t\n1,7,1400000000\n")

    def write_more(*given: Any, **more: Any) -> Any:
        (tmp_path / "b").write_text("s,i,t\n1,7,1400000000\n1,8,1400000000\n")
        return before(*given, **more)

    before = module.write_parts  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "write_parts", write_more)
    with pytest.raises(LogError, match="one of the 2 files of the log changed while it was read"):
        ingest(
            [tmp_path / "a", tmp_path / "b"],
            tmp_path / "d",
            ReadSettings(columns={"session": "s", "item": "i", "time": "t"}),
        )
