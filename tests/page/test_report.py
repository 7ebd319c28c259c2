"""`pocketrec report`: its figures are those of the commands; what is old is said and not shown; any log is safe."""

from __future__ import annotations

import html.parser
import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Click, call, write_log
from lite_support import models
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset

pytest.importorskip("jinja2")

SECTIONS = ("log", "funnel", "split", "training", "accuracy", "model", "made")
HEBREW = "\u05e2\u05d1\u05e8\u05d9\u05ea"
HOSTILE = (
    '<script>alert("1")</script>',
    "\u202eevil\u202c",
    "x" * 10_000,
    "a&b'c\"d",
    "\x1b[31mred",
    "{{ 7 * 7 }}",
    HEBREW,
)


class Page(html.parser.HTMLParser):
    """A page as a browser's parser sees it: elements by name, text, and the page's own data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.data, self._in = "", "", ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = f"{tag} {dict(attrs).get('id', '')}"

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script data":
            self.data += data
        elif not self._in.startswith(("script", "style")):
            self.text += data

    @property
    def ids(self) -> set[str | None]:
        return {attributes.get("id") for _, attributes in self.tags}

    def json(self) -> Any:
        return json.loads(self.data)


def report(dataset: Path, *words: object) -> tuple[Any, Page]:
    """What `--json` prints, and the page."""
    code, out, err = call("report", "--dataset", dataset, "--json", *words)
    assert (code, err) == (0, ""), err
    found = json.loads(out)
    return found, Page(Path(found["page"]))


def check_contained(page: Page) -> None:
    """No request to any other place, under 2 MB, with every section and nothing that runs but the page's own script."""
    assert len(page.source.encode()) < 2_000_000
    assert not [a for _, attributes in page.tags for a in ("src", "action", "data", "poster", "srcset") if a in attributes]
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert links
    assert all(link and link.startswith(("#", "data:,")) for link in links)
    assert {link[1:] for link in links if link and link.startswith("#")} <= page.ids
    assert not re.search(r"url\(|@import|\bon\w+=", page.source.partition("<body>")[0])
    assert [attributes.get("id") for tag, attributes in page.tags if tag == "script"] == ["data", None]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth(tmp_path_factory.mktemp("log") / "clicks.dat", SynthSettings(clicks=3000, seed=3)).path


@pytest.fixture(scope="module")
def prepared(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A dataset with batches and measured baselines, and what the commands printed."""
    folder = tmp_path_factory.mktemp("prepared") / "d"
    words = ("--dataset", folder, "--batch-size", 8, "--holdout", "20d", "--formats", "npy", "--json")
    prepared = json.loads(call("prep", log, *words)[1])
    return folder, prepared, json.loads(call("evaluate", "--dataset", folder, "--json")[1])


@pytest.fixture
def dataset(prepared: tuple[Path, Any, Any], tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(prepared[0], tmp_path / "d")
    return tmp_path / "d"


def states(found: Any, part: str = "clicks") -> dict[str, str]:
    topics = found["data"][part].items()
    return {name: topic["state"] for name, topic in topics if isinstance(topic, dict)}


def test_the_figures_are_those_of_the_commands(prepared: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder, made, measured = prepared
    found, page = report(folder, "--out", tmp_path / "page.html")
    check_contained(page)
    assert set(SECTIONS) <= page.ids
    assert page.json() == found["data"], "the page carries what --json prints"
    clicks = page.json()["clicks"]
    log = clicks["log"]["data"]
    assert log["ingest"] == {**made["ingest"], "reused": True}
    assert (log["rows"], clicks["split"]["data"]["sets"]) == (made["ingest"]["rows"], made["split"]["sets"])
    (batches,) = clicks["batches"]["data"]
    settings = batches.pop("settings")
    assert (batches, settings["batch_size"]) == ({**made["batches"], "reused": True}, 8)
    (run,) = clicks["accuracy"]["data"]
    assert run["report"] == measured
    for model in measured["models"]:
        assert f"{model['recall']['20']:.4f}" in page.text
        assert f"{model['mrr']['20']:.4f}" in page.text
        assert sum(group["events"] for group in model["by_place"]) == measured["events"]
        assert sum(group["events"] for group in model["by_support"]) == measured["events"]
        hits = sum(group["events"] * group["recall"] for group in model["by_support"])
        assert hits == pytest.approx(model["recall"]["20"] * measured["events"])
    filters, sets = clicks["split"]["data"]["filters"], made["split"]["sets"]
    assert log["rows"] == filters["rows"] >= filters["long_sessions"] >= filters["frequent_items"] >= filters["left"]
    assert filters["left"] >= sets["train_full"]["events"] + sets["test"]["events"]
    for count in (*filters.values(), made["batches"]["sets"]["train_tr"]["transitions"]):
        assert f"{count:,}" in page.text
    assert [one["command"].split()[1] for one in clicks["made"]] == ["ingest", "split", "batches", "evaluate"]


def test_what_is_missing_is_said_with_the_command(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    code, _, err = call("report", "--dataset", folder)
    assert code == 1
    assert "is not a folder" in err
    call("ingest", log, "--dataset", folder)
    found, page = report(folder)
    assert found["page"] == str(folder / "report.html")
    missing = dict.fromkeys(("split", "batches", "training", "accuracy", "model"), "missing")
    assert states(found) == {"log": "current", **missing}
    for command in ("split", "train", "evaluate", "export"):
        assert f"pocketrec {command} --dataset {folder}" in page.text
    check_contained(page)
    assert set(SECTIONS) <= page.ids
    code, out, err = call("report", "--dataset", folder)
    assert (code, out.split(",")[0]) == (0, f"Page: {folder / 'report.html'}")
    assert "training: missing, no network was trained; pocketrec train" in err


def test_a_figure_that_is_old_is_never_there(dataset: Path, log: Path) -> None:
    before, page = report(dataset)
    recall = f"{before['data']['clicks']['accuracy']['data'][0]['report']['models'][0]['recall']['20']:.4f}"
    assert recall in page.text
    call("split", "--dataset", dataset, "--holdout", "10d")
    found, page = report(dataset)
    assert states(found)["split"] == "current"
    assert (states(found)["batches"], states(found)["accuracy"]) == ("out of date", "out of date")
    assert recall not in page.text
    assert "the split has changed since" in page.text.replace("The split", "the split")
    call("batches", "--dataset", dataset, "--batch-size", 4, "--formats", "npy")
    assert states(report(dataset)[0])["accuracy"] == "out of date", "of other sessions"
    lengths = next(Dataset(dataset).clicks.rglob("*.parquet"))
    lengths.write_bytes(lengths.read_bytes()[:-9])
    found, page = report(dataset)
    assert (states(found)["log"], found["data"]["clicks"]["log"]["data"]) == ("damaged", None)
    assert f"pocketrec ingest {log}" in page.text


def test_a_log_that_has_changed_is_said_in_every_section(log: Path, tmp_path: Path) -> None:
    mine = tmp_path / "clicks.dat"
    shutil.copy(log, mine)
    call("prep", mine, "--dataset", tmp_path / "d", "--batch-size", 8, "--holdout", "20d", "--formats", "npy")
    assert "of the log as it was then" not in report(tmp_path / "d")[1].text
    mine.write_bytes(mine.read_bytes() + b"7,2014-09-30T02:00:00.000Z,9,0\n")
    found, page = report(tmp_path / "d")
    assert found["data"]["clicks"]["aged"] == f"{mine} has changed since"
    assert page.text.count("of the log as it was then") == 3, "log, funnel and split"
    assert "sessions, before the log changed" in page.text


def test_hostile_ids_are_text(tmp_path: Path) -> None:
    ids = [one.replace('"', '""') for one in HOSTILE]
    rows = [
        f'"{ids[n % len(ids)]}{n}","{ids[(k * n) % len(ids)]}",{1_400_000_000 + 9000 * n + k}'
        for n in range(12) for k in range(4)
    ]  # fmt: skip
    bad = [f'"s","{HOSTILE[0]}",never' for _ in range(3)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(['s,"<b>i</b>",t', *rows, *bad]) + "\n", encoding="utf-8")
    words = ("--columns", "session=s,item=<b>i</b>,time=t", "--bad-rows", "set-aside", "--min-item-support", 1)
    code, _, err = call(
        "prep", log, *words, "--dataset", tmp_path / "d", "--holdout", "3h", "--batch-size", 2, "--tail", "pad"
    )
    assert code == 0, err
    call("evaluate", "--dataset", tmp_path / "d")
    _, page = report(tmp_path / "d")
    check_contained(page)
    assert len(page.source) < 200_000
    assert '<script>alert("1")</script>' in page.text
    assert HEBREW in page.text
    assert "10,000 characters" in page.text
    assert "7 * 7" in page.text
    for hidden, shown in (("\u202e", "\\u202e"), ("\x1b", "\\x1b")):
        assert hidden not in page.source
        assert shown in page.text
    assert "3 of 51 rows" in page.text


def test_one_session_is_enough(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.dat", [Click(5, 1_400_000_000_000, 7)])
    call("ingest", log, "--dataset", tmp_path / "d")
    _, page = report(tmp_path / "d")
    assert "1 click in 1 session" in page.text
    check_contained(page)


def test_the_page_of_somebody_else_is_not_replaced(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine.html"
    other.write_text("<html>my own</html>")
    code, _, err = call("report", "--dataset", dataset, "--out", other)
    assert code == 1
    assert "is no page of pocketrec" in err
    assert other.read_text() == "<html>my own</html>"
    assert report(dataset)[1].source
    assert report(dataset)[1].source, "its own is"


def test_without_jinja_the_extra_is_named(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "jinja2" else find(name, *rest))
    code, _, err = call("report", "--dataset", dataset)
    assert code == 1
    assert "pip install 'pocketrec[report]'" in err


def test_five_sessions_are_shown_with_what_was_recommended(tmp_path: Path) -> None:
    """A model that is there is measured by LiteRT, on a log whose items it has; its record is of another index."""
    pytest.importorskip("ai_edge_litert")
    root = tmp_path / "d"
    items = [100 + 3 * code for code in range(40)]
    clicks = [Click(1, 1_400_000_000_000 + k, item) for k, item in enumerate(items)]
    clicks += [Click(n, 1_400_000_000_000 + 9_000_000 * n + k, items[(n * k) % 40]) for n in range(2, 40) for k in range(5)]
    words = ("--dataset", root, "--min-item-support", 1, "--holdout", "12h", "--batch-size", 4, "--formats", "npy")
    assert call("prep", write_log(tmp_path / "log.dat", clicks), *words)[0] == 0
    shutil.copytree(Dataset(models() / "shared").model, root / "model", dirs_exist_ok=True)
    code, out, err = call("evaluate", root / "model" / "gru4rec_bs4.tflite", "--dataset", root, "--json")
    assert code == 0, err
    measured = json.loads(out)
    found, page = report(root)
    assert states(found)["model"] == "out of date", "it was exported for another item index"
    (run,) = found["data"]["clicks"]["accuracy"]["data"]
    assert run["report"] == measured
    assert len(measured["examples"]) == 5
    for example in measured["examples"]:
        assert len(example["recommended"]) == len(example["ranks"]) == len(example["clicks"]) - 1
        for best, rank, came in zip(example["recommended"], example["ranks"], example["clicks"][1:], strict=True):
            assert (came in best) == (rank <= len(best))
    assert page.text.count("recommended, best first") == 5
    # Another model, of which nothing was measured, is not given the figures of this one.
    shutil.copy(Dataset(models() / "adam").tflite(4), root / "model" / "gru4rec_bs4.tflite")
    assert states(report(root)[0])["accuracy"] == "out of date"
