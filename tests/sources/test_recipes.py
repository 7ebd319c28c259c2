# ruff: noqa: E501 (rows as they are published)
"""Each recipe on rows of its form, as the publishers give them; what comes out was worked out by hand."""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path

import polars as pl
import pytest

from conftest import call
from log_support import tarred, zipped
from pocketrec.dnn.options import DnnPrepSettings
from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ingest import ingest, ingest_kind
from pocketrec.ingestion.options import RatingSettings
from pocketrec.ingestion.parts import Parts, read_frame
from pocketrec.progress import SILENT
from pocketrec.sources import recipes
from pocketrec.sources.options import RECIPES, ReadSettings
from pocketrec.storage.layout import Dataset

Clicks = list[tuple[str, str, int]]
"""Session (the id that came in, and the number of the cut one behind a #), item, ms; in the order of the log."""

SAMPLES: dict[str, tuple[str, Clicks, int]] = {
    "retailrocket": (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,7,view,100,\n1433221342117,7,view,200,\n1433221352117,7,addtocart,200,\n"
        "1433826132117,7,view,300,\n1433826142117,7,view,400,\n",
        [("7#1", "100", 1433221332117), ("7#1", "200", 1433221342117), ("7#2", "300", 1433826132117),
         ("7#2", "400", 1433826142117)], 1,
    ),
    "rees46": (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n"
        "2019-10-01 00:00:01 UTC,cart,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n"
        "2019-10-01 00:00:02 UTC,view,3900821,2053013552326770905,,aqua,33.20,554748717,\n",
        [("72d76fde", "44600062", 1569888000000)], 1,
    ),
    "diginetica": (
        "session_id;user_id;item_id;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n1;NA;31331;1031018;2016-05-09\n",
        [("1", "81766", 1462752526309), ("1", "31331", 1462753031018)], 0,
    ),
    "otto": (
        '{"session":0,"events":[{"aid":1517085,"ts":1659304800025,"type":"clicks"},'
        '{"aid":7,"ts":1659304800026,"type":"carts"}]}\n{"session":12,"events":[{"aid":5,"ts":1659304900025,"type":"clicks"}]}\n',
        [("0", "1517085", 1659304800025), ("12", "5", 1659304900025)], 1,
    ),
    "coveo": (
        "session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url\n"
        "20c45,pageview,,,1550885210881,7e4\n20c45,event_product,detail,d5157,1550885211000,7e5\n"
        "20c45,event_product,detail,61ef3,1550888811001,7e5\n",
        [("20c45#1", "d5157", 1550885211000), ("20c45#2", "61ef3", 1550888811001)], 1,
    ),
    "taobao": (
        "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n1,2576651,149192,pv,1511572885\n"
        "2,3830808,4181361,pv,-1\n",
        [("1#1", "2268318", 1511544070000), ("1#2", "2576651", 1511572885000)], 1,
    ),
    "tianchi": (
        "user_id,item_id,behavior_type,user_geohash,item_category,time\n98047837,232431562,1,,4245,2014-12-06 02\n"
        "98047837,383583590,1,,5894,2014-12-06 03\n98047837,64749712,3,,2883,2014-12-06 04\n98047837,320593836,1,96nn52n,6562,2014-12-06 06\n",
        [("98047837#1", "232431562", 1417831200000), ("98047837#1", "383583590", 1417834800000),
         ("98047837#2", "320593836", 1417845600000)], 1,
    ),
    "lastfm-1k": (
        'user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep Dish\t\tFuck Me\nuser_000001\t2009-05-04T13:54:10Z\t7746d775\t"Weird Al" Yankovic\t\tEat It\n'
        "user_000001\t2009-05-04T13:52:04Z\t\tNobody\t\tNothing\n",
        [("user_000001#2", "f1b1cf71", 1241478537000), ("user_000001#1", "7746d775", 1241445250000)], 0,
    ),
    "gowalla": (
        "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n0\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315\n",
        [("0#2", "22847", 1287532527000), ("0#1", "420315", 1287440263000)], 0,
    ),
    "foursquare": (
        "470\t49bbd6c0f964a520f4531fe3\t4bf58dd8d48988d127951735\tArts & Crafts \xe9\t40.7198\t-74.0025\t-240\tTue Apr 03 18:00:09 +0000 2012\n",
        [("470#1", "49bbd6c0f964a520f4531fe3", 1333476009000)], 0,
    ),
    "globo": (
        "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment\n"
        "0,1506825423271737,1506825423000,2,119592,1506826828020,4\n0,1506825423271737,1506825423000,2,30760,1506826858020,4\n",
        [("1506825423271737", "119592", 1506826828020), ("1506825423271737", "30760", 1506826858020)], 0,
    ),
    "trivago": (
        "user_id,session_id,timestamp,step,action_type,reference,platform\n"
        "00RL8Z82B2Z1,aff3928535f48,1541037460,1,search for poi,Newtown,AU\n00RL8Z82B2Z1,aff3928535f48,1541037522,2,clickout item,109038,AU\n",
        [("aff3928535f48", "109038", 1541037522000)], 1,
    ),
    "h-and-m": (
        '"t_dat","customer_id","article_id","price","sales_channel_id"\n"2018-09-20","000058a1","0663713001","0.05","2"\n"2018-09-20","000058a1","0541518023","0.03","2"\n'
        '"2018-09-21","000058a1","0541518023","0.03","2"\n',
        [("000058a1+2018-09-20", "0663713001", 1537401600000), ("000058a1+2018-09-20", "0541518023", 1537401600000),
         ("000058a1+2018-09-21", "0541518023", 1537488000000)], 0,
    ),
    "amazon": (
        "user_id,parent_asin,rating,timestamp\nAEA3QYCHFQQ,B097R46CSY,5.0,1662847203456\n",
        [("AEA3QYCHFQQ", "B097R46CSY", 1662847203456)], 0,
    ),
    "ga4": (
        "user_pseudo_id,ga_session_id,item_id,event_timestamp,event_name\n"
        "A.1,1611111111,x,1611111111123000,view_item\nA.1,1611111111,y,1611111112123000,view_item\n"
        "B.2,1611111111,z,1611111111500000,view_item\nB.2,1611111111,w,1611111113000000,page_view\n",
        [("A.1+1611111111", "x", 1611111111123), ("A.1+1611111111", "y", 1611111112123), ("B.2+1611111111", "z", 1611111111500)], 1,
    ),
    "yoochoose": ("1,2014-04-07T10:51:09.277Z,214536502,0\n", [("1", "214536502", 1396867869277)], 0),
}  # fmt: skip
"""By recipe: a log, its clicks, and how many rows `--where` leaves out."""

OTHER_FORMS: dict[str, tuple[str, str, Clicks, int]] = {
    "diginetica, the names of 2016": (
        "diginetica", "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n",
        [("1", "81766", 1462752526309)], 0,
    ),
    "otto, one event a row": (
        "otto", "session,aid,ts,type\n5,1517085,1659304800,0\n5,1563459,1659304904,1\n", [("5", "1517085", 1659304800000)], 1,
    ),
    "foursquare, global": (
        "foursquare", "50756\t4f5e3a72e4b053fd6a4313f6\tTue Apr 03 18:00:06 +0000 2012\t240\n",
        [("50756#1", "4f5e3a72e4b053fd6a4313f6", 1333476006000)], 0,
    ),
    "amazon 2023, JSON": (
        "amazon", '{"rating": 5.0, "title": "x", "images": [], "asin": "B00", "parent_asin": "B01", "user_id": "AE", "timestamp": 1588687728923}\n',
        [("AE", "B01", 1588687728923)], 0,
    ),
    "amazon 2018, JSON": (
        "amazon", '{"overall": 5.0, "reviewerID": "A1", "asin": "0001", "unixReviewTime": 1358380800}\n', [("A1", "0001", 1358380800000)], 0,
    ),
    "amazon 2014": ("amazon", "A39HTATAQ9V7YF,0205616461,5.0,1369699200\n", [("A39HTATAQ9V7YF", "0205616461", 1369699200000)], 0),
    "amazon 2018": ("amazon", "0205616461,A39HTATAQ9V7YF,5.0,1369699200\n", [("A39HTATAQ9V7YF", "0205616461", 1369699200000)], 0),
    "ga4, as exported": (
        "ga4",
        '{"user_pseudo_id":"1.2","event_timestamp":"1611111111123456","event_name":"view_item","items":[{"item_id":"SKU1"},{"item_id":"SKU2"}]}\n'
        '{"user_pseudo_id":"1.2","event_timestamp":"1611112311123456","event_name":"page_view","items":[]}\n'
        '{"user_pseudo_id":"1.2","event_timestamp":"1611113511123456","event_name":"view_item","items":[{"item_id":"SKU3"}]}\n',
        [("1.2#1", "SKU1", 1611111111123), ("1.2#1", "SKU2", 1611111111123), ("1.2#1", "SKU3", 1611113511123)], 1,
    ),
}  # fmt: skip
FORMS = {**{name: (name, *sample) for name, sample in SAMPLES.items()}, **OTHER_FORMS}


def clicks(root: Path) -> Clicks:
    parts = Parts(Dataset(root))
    frame = pl.concat([read_frame(part, [*pl.read_parquet_schema(next(part.iterdir()))]) for part in parts.folders])
    cut = "session_id" in frame.columns and "session_id" not in parts.text_ids
    session = pl.col("session").cast(pl.String)
    if cut:
        session = pl.concat_str(pl.col("session_id").cast(pl.String), pl.lit("#"), session)
    elif "session_id" in frame.columns:
        session = pl.col("session_id")
    item = pl.col("item_id") if "item_id" in frame.columns else pl.col("item").cast(pl.String)
    return frame.sort("row").select(session.alias("s"), item.alias("i"), "time").rows()


def test_every_recipe_has_rows_here() -> None:
    assert list(SAMPLES) == recipes.names() == [name.strip() for name in RECIPES.split(",")]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("named", [True, False])
def test_a_recipe_reads_its_log(tmp_path: Path, name: str, named: bool) -> None:
    recipe, text, expected, left_out = FORMS[name]
    log = tmp_path / "log"
    log.write_bytes(text.encode("latin-1"))
    report = ingest(log, tmp_path / "d", ReadSettings(like=recipe if named else ""))
    assert clicks(tmp_path / "d") == expected
    assert report.left_out == left_out
    assert report.rows + report.left_out + report.set_aside == report.lines
    if recipe == "yoochoose":
        return
    said = report.remarks[0]
    assert said.startswith(
        f"read as {next(one.title for one in recipes.load() if one.name == recipe).split(',')[0].split(' ')[0]}"
    )
    assert "--columns session=" in said
    assert ("--like none to say it yourself" in said) != named
    words = said.split("): ", 1)[-1]
    out, err = call("ingest", log, "--dataset", tmp_path / "e", "--like", "none", *shlex.split(words))[1:]
    assert err.count("Error") == 0, (out, err)
    assert clicks(tmp_path / "e") == expected, "the options that it stands for read the same"


def test_options_come_before_the_recipe(tmp_path: Path) -> None:
    text, _, _ = SAMPLES["retailrocket"]
    (tmp_path / "log").write_text(text)
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(where=("event=view,addtocart",), session_gap=10.0))
    assert (report.rows, report.left_out, report.sessions) == (5, 0, 2)
    with pytest.raises(SettingsError, match="columns are not"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(like="none", where=("event=view",)))


def test_the_log_of_an_archive_is_found_by_its_name(tmp_path: Path) -> None:
    """Diginetica's zip has clicks on queries beside the views of items."""
    text, expected, _ = SAMPLES["diginetica"]
    members = (("train-clicks.csv", b"queryId;timeframe;itemId\n"), ("train-item-views.csv", text.encode()))
    (tmp_path / "log.zip").write_bytes(zipped(*members))
    report = ingest(tmp_path / "log.zip", tmp_path / "d", ReadSettings(like="diginetica"))
    assert (clicks(tmp_path / "d"), report.member) == (expected, "train-item-views.csv")
    (tmp_path / "log.tgz").write_bytes(gzip.compress(tarred(*members)))
    assert not ingest(tmp_path / "log.tgz", tmp_path / "d", ReadSettings(like="diginetica")).reused
    assert clicks(tmp_path / "d") == expected
    (tmp_path / "two.zip").write_bytes(zipped(("a.csv", text.encode()), ("b.csv", b"x\n")))
    with pytest.raises(LogError, match=r"holds a\.csv, b\.csv") as error:
        ingest(tmp_path / "two.zip", tmp_path / "d")
    assert "--member" in error.value.do
    ingest(tmp_path / "two.zip", tmp_path / "e", ReadSettings(member="a.csv"))
    assert clicks(tmp_path / "e") == expected


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("who|what|when|kind\nu|i|2020-01-01 00:00|x\nu|j|2020-01-01 00:01|y\n")
    own = tmp_path / "mine.toml"
    own.write_text('columns = "session=who,item=what,time=when"\nwhere = ["kind=x"]\n')
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(like=str(own)))
    assert (report.rows, report.left_out) == (1, 1)
    for text, words in {
        "columns = 7": "not a file of recipes", "colums = 'a'": "which is no option", "x = [": "not a file of recipes",
        "columns = 'session=a'": "does not name the columns", "where = ['x']": "where is 'x'",
    }.items():  # fmt: skip
        own.write_text(text)
        with pytest.raises(SettingsError, match=words):
            ingest(tmp_path / "log", tmp_path / "d", ReadSettings(like=str(own)))


def test_what_is_no_recipe_or_does_not_fit_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(SettingsError, match="like is 'retail'"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(like="retail"))
    with pytest.raises(LogError, match="otto has 2 forms, and standard input cannot be looked at twice"):
        ingest("-", tmp_path / "d", ReadSettings(like="otto"))
    with pytest.raises(LogError, match="is not in a form of otto: 'a,b,c'"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(like="otto"))
    with pytest.raises(LogError, match=r"called 'timestamp'|'visitorid'"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(like="retailrocket"))


def test_parquet_is_known_by_its_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame({"session": [1, 1], "aid": [5, 6], "ts": [1659304800, 1659304801], "type": [0, 1]})
    frame.write_parquet(tmp_path / "log.parquet")
    report = ingest(tmp_path / "log.parquet", tmp_path / "d")
    assert (report.rows, report.left_out) == (1, 1)
    assert clicks(tmp_path / "d") == [("1", "5", 1659304800000)]


@pytest.mark.parametrize("name", ["amazon", "amazon 2014", "amazon 2018", "amazon 2018, JSON", "amazon 2023, JSON"])
@pytest.mark.parametrize("command", ["ncf", "dnn"])
def test_ratings_are_read_by_the_same_recipes(tmp_path: Path, name: str, command: str) -> None:
    _, text, expected, _ = FORMS[name]
    (tmp_path / "log").write_text(text)
    kind, settings = ("rated", DnnPrepSettings()) if command == "dnn" else ("ratings", RatingSettings())
    ingest_kind(kind, tmp_path / "log", tmp_path / "d", settings, (command,), fresh=False, force=False, progress=SILENT)  # type: ignore[arg-type]
    assert clicks(tmp_path / "d") == expected
    if command == "dnn":
        (part,) = Parts(Dataset(tmp_path / "d")).folders
        assert read_frame(part, ["rating"])["rating"].to_list() == [5.0]
