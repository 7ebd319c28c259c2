"""Kept sessions in a browser: what is in tool/web recommends and learns as `NeighbourModel` does, without LiteRT."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serve import serving
from test_web import Tab, choose

from browser import Browser, missing
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.neighbour_model import KnownSessions, NeighbourModel
from pocketrec.lite.neighbours import METHODS, NEVER, Neighbourhood, SessionIndex

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
DAY = 86_400_000


def write(
    path: Path, settings: Neighbourhood, rng: np.random.Generator, *, own: bool = True, n: int = 12
) -> NeighbourModel:
    """Sessions with many items in common, a third of which begin at the same time as another one."""
    lengths = rng.integers(1, 9, rng.integers(0, 60))
    items = rng.integers(0, n, lengths.sum()).astype(np.int32)
    times = np.sort(rng.integers(0, 60, len(lengths))) * DAY // 2
    catalogue = Catalogue(tuple(f"ä{code}" for code in range(n)), np.bincount(items, minlength=n))
    KnownSessions("VSTAN", settings, own, catalogue, SessionIndex.of(items, lengths, times, n), {}).write(path)
    return NeighbourModel(path)


def journey(rng: np.random.Generator, n: int) -> list[str]:
    return [f"ä{code}" for code in rng.integers(0, n + 4, rng.integers(2, 8))]


def recommended(model: NeighbourModel, session: list[str], **options: Any) -> list[dict[str, Any]]:
    """None, if it knows none of the items."""
    if not set(session) & model.items.codes.keys():
        return []
    return [{"id": one.item, "score": one.score} for one in model.recommend(session, **options)]


def check_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]], where: object) -> None:
    """The same items in the same order: scores that are equal here are equal there."""
    assert [one["id"] for one in found] == [one["id"] for one in wanted], where
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted], rel=1e-6), where


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def model(folder: Path) -> NeighbourModel:
    """What the page is served with: a network that begins with it must not be asked for."""
    return write(folder / "stan.safetensors", METHODS["STAN"], np.random.default_rng(8), n=30)


@pytest.fixture(scope="module")
def tab(folder: Path, model: NeighbourModel) -> Iterator[Tab]:
    """A page of a real `pocketrec serve`, in a folder without LiteRT.js; beside its model there is another one."""
    write(folder / "other.safetensors", METHODS["VSTAN"], np.random.default_rng(9), n=30)
    with closing(Browser()) as browser, serving(model.path, "--port", 0, cwd=folder) as (report, _):
        tab = Tab(browser, report["url"], "sessions")
        tab.open({"other.safetensors": folder / "other.safetensors"}, anew=True)
        with closing(tab):
            yield tab


def test_recommendations_are_those_of_python_also_where_scores_are_equal(tmp_path: Path, tab: Tab) -> None:
    """Random sessions, settings and journeys, with ids that are not known, before and after some are learned."""
    rng = np.random.default_rng(2)
    settings = [
        *METHODS.values(),
        Neighbourhood(neighbours=3, newest=4),
        Neighbourhood(neighbours=5, newest=9, idf=1, near=2, again=0.75),
    ]
    settings += [Neighbourhood(shape="linear", neighbours=2, recency=9, inside=3, match=4, near=2.5, norm=1)]
    lengths = (1.0, 2.5, NEVER)
    settings += [
        Neighbourhood(
            int(rng.integers(1, 9)), int(rng.integers(1, 9)), inside=rng.choice(lengths), match=rng.choice(lengths)
        )
        for _ in range(13)
    ]
    jobs, wanted = [], []
    for number, one in enumerate(settings * 2):
        model = write(tmp_path / f"{number}.safetensors", one, rng, own=number % 3 > 0)
        asked = [(journey(rng, 12), int(rng.integers(1, 13))) for _ in range(8)]
        learned = [journey(rng, 12) for _ in range(number % 4)]
        before = [recommended(model, session, top=top) for session, top in asked]
        for session in learned:
            model.learn(session)
        wanted.append([*before, *[recommended(model, session, top=top) for session, top in asked]])
        jobs.append([list(model.path.read_bytes()), asked, learned])
    found = tab.run(
        """const found = [];
        for (const [number, [bytes, asked, learned]] of argument.entries()) {
          const model = await load(new Uint8Array(bytes), { database: "ties", name: String(number) });
          const all = () => Promise.all(asked.map(([session, top]) =>
            model.recommend(session, { top }).catch((error) => /knows none of the items/.test(error) ? [] : error)));
          const before = await all();
          for (const session of learned) await model.observe(session);
          await model.learn();
          found.push([...before, ...await all()]);
        }
        return found;""",
        jobs,
    )
    assert sum(len({one["score"] for one in best}) < len(best) for some in wanted for best in some) > 50
    for number, (some, same) in enumerate(zip(found, wanted, strict=True)):
        for best, other in zip(some, same, strict=True):
            check_same(best, other, number)


def test_a_session_is_learned_by_keeping_it_and_known_again(tab: Tab, model: NeighbourModel) -> None:
    """With its new items; by another instance, too. What was forgotten is gone. The calls are those of a GRU4Rec."""
    model = NeighbourModel(model.path)
    sessions, asked = [["ä1", "new", "ä2"], ["ä3"], ["new", "ä2", "ä2"]], ["new", "ä1"]
    cases: list[dict[str, Any]] = [{}, {"exclude": ["ä2"], "top": 2}, {"allow": ["ä2", "ä4", "new"]}, {"excludeSeen": True}]
    found = tab.run(
        """const [sessions, asked, cases] = argument, at = { database: "user" }, open = () => load("/model.bin", at);
        const model = await open(), shipped = await model.recommend(asked), found = { shipped };
        const all = (one) => Promise.all(cases.map((options) => one.recommend(asked, options)));
        const calls = [...sessions.map((one) => model.observe(one)), model.recommend(asked), model.learn(), all(model)];
        [found.observed, found.learned, found.first] = (await Promise.all(calls)).slice(-3);
        found.k = [model.k, model.trainable, model.learns, model.file.kind, model.use.seen];
        const again = await open();
        Object.assign(found, { journal: again.journal, other: again.learned, second: await all(again) });
        await again.observe(["new", "ä5"]);
        found.since = [await all(again), await all(await open())];
        const other = await load("/other.safetensors", at), fresh = await load("/other.safetensors", { name: "nobody" });
        const both = async () => JSON.stringify([await other.recommend(["ä1"]), await fresh.recommend(["ä1"])]);
        found.replaced = [other.learned === undefined, other.journal.observed, await both()];
        await model.learn(); // the session that another page has observed
        found.late = await all(model);
        await model.forget();
        found.forgotten = [model, await open()].map(({ journal, learned }) => [journal.observed, learned === undefined]);
        found.unknown = await message(() => model.recommend(["new"]));
        found.last = await model.recommend(asked);
        found.nothing = await model.learn();
        found.wrong = [await message(() => model.recommend(asked, { top: 0 })), await message(() => model.observe([])),
          await message(() => model.learn({ keep: "no" })), await message(() => load("/model.bin", { use: { seen: 1 } }))];
        await model.forget();
        await model.close();
        found.closed = await message(() => model.recommend(asked));
        return found;""",
        [sessions, asked, cases],
    )
    shipped = recommended(model, asked)
    for name in ("shipped", "observed", "last"):
        check_same(found[name], shipped, name)
    python = [{"exclude_seen" if name == "excludeSeen" else name: one for name, one in case.items()} for case in cases]
    for session in sessions:
        if len(session) > 1:
            model.learn(session)
    for name in ("first", "second"):
        for options, items in zip(python, found[name], strict=True):
            check_same(items, recommended(model, asked, **options), (name, options))
    model.learn(["new", "ä5"])
    for some in (*found["since"], found["late"]):
        for options, items in zip(python, some, strict=True):
            check_same(items, recommended(model, asked, **options), options)
    assert found["k"] == [31, True, True, "neighbours", "show"]
    assert (found["learned"]["kept"], found["learned"]["cached"], found["learned"]["transitions"]) == (True, False, 4)
    assert found["other"] == found["learned"]
    assert found["journal"] == {"sessions": sessions, "observed": 3}
    assert found["replaced"][:2] == [True, 4]
    one, other = json.loads(found["replaced"][2])
    assert one == other
    assert found["forgotten"] == [[0, True]] * 2
    assert "knows none of the items new" in found["unknown"]
    assert (found["nothing"]["kept"], found["nothing"]["transitions"]) == (False, 0)
    words = ["0 items are asked for", "The session has no items", "`keep` is no", "Of `use`, seen is 1."]
    assert [word in said for word, said in zip(words, found["wrong"], strict=True)] == [True] * 4
    assert "The model is closed" in found["closed"]


def test_a_record_that_cannot_be_is_said_and_can_be_learned_again(tab: Tab) -> None:
    found = tab.run(
        """const at = { database: "damaged" }, model = await load("/model.bin", at), found = [];
        await model.observe(["ä1", "ä2"]);
        await model.learn();
        const { find, write } = await import("/store.js"), { learned } = await find("damaged", "user");
        for (const [name, value] of [["learned", 7], ["learned", { kept: 1 }], ["observed", "1"]]) {
          await write("damaged", "user", "learned", () => ({ ...learned, [name]: value }));
          const bad = await load("/model.bin", at), fault = bad.fault?.message;
          await bad.learn();
          found.push([fault, bad.fault === undefined, (await load("/model.bin", at)).learned.kept]);
        }
        return found;"""
    )
    for fault, *cured in found:
        assert "The record that was kept is damaged." in fault
        assert cured == [True, True]


ROWS: dict[str, Any] = {
    "ids": np.frombuffer(b"a\nb", "u1"), "support": np.array([1, 2], "u1"), "items": np.array([0, 1, 1], "u1"),
    "places": np.array([0, 1, 0], "u1"), "sizes": np.array([2, 1], "u1"), "lengths": np.array([2, 1], "u8"),
    "times": np.array([5, 1 << 33], "u8"),
}  # fmt: skip
ABOUT = {"format": 4, "kind": "neighbours", "xxh3": "0", "method": "X", "own": True, "settings": {}}
BAD_ROWS: list[tuple[str, str, list[int]]] = [
    ("items", "u1", [0, 1, 2]), ("items", "u1", [0, 1]), ("places", "u4", [0, 1, 1 << 16]), ("places", "u1", [0, 1]),
    ("sizes", "u1", [3, 0]), ("sizes", "u1", [2, 2]), ("sizes", "u1", [1, 1]), ("sizes", "u1", [3]),
    ("sizes", "u8", [1 << 39, 1]), ("lengths", "u1", [1, 1]), ("lengths", "u4", [2, 1 << 31]), ("lengths", "u1", [2]),
    ("times", "u1", [5, 4]), ("times", "u8", [5, 1 << 40]), ("times", "u1", [5]), ("support", "u1", [1]),
    ("ids", "u1", [97]), ("ids", "u1", [97, 10, 97]), ("ids", "u1", [97, 10]), ("ids", "u1", [97, 13, 98, 10, 99]),
    ("ids", "u1", [97, 10, 255]), ("ids", "u2", [97, 10, 98]),
]  # fmt: skip
BAD_SETTINGS: list[dict[str, Any]] = [
    {"newest": 0}, {"newest": None}, {"neighbours": 1.5}, {"inside": 0}, {"near": -1}, {"match": "1"}, {"norm": None},
    {"idf": None}, {"again": -1}, {"shape": "round"}, {"x": 1}, {"__proto__": 1},
]  # fmt: skip
BAD_ABOUT: list[Any] = [
    None, 7, [], {"format": 3}, {**ABOUT, "format": 5}, {**ABOUT, "kind": "learned"}, {**ABOUT, "own": 1},
    {**ABOUT, "xxh3": None}, *[{**ABOUT, "settings": one} for one in BAD_SETTINGS],
]  # fmt: skip


def packed(rows: dict[str, Any], about: Any = ABOUT) -> tuple[dict[str, Any], bytes]:
    """The header of such a file, and what is behind it."""
    header: dict[str, Any] = {"__metadata__": {"pocketrec": json.dumps(about)}}
    data = b""
    for name, row in rows.items():
        end = len(data) + row.nbytes
        header[name] = {"dtype": f"U{8 * row.itemsize}", "shape": [len(row)], "data_offsets": [len(data), end]}
        data += row.tobytes()
    return header, data


def bad_headers() -> Iterator[Any]:
    """Headers that do not fit the bytes behind them, which are those of `ROWS`."""
    header, data = packed(ROWS)
    size = len(data)
    yield from ("", "null", "[]", "7", "{", '{"a":' * 999, {}, {**header, "__metadata__": None})
    yield from ({**header, "__metadata__": {}}, {**header, "x": None})
    for offsets in ([size, size + 1], [0, 1]):
        yield {**header, "x": {"dtype": "U8", "shape": [1], "data_offsets": offsets}}
    for name in ROWS:
        row, rest = header[name], {key: one for key, one in header.items() if key != name}
        (count,), (begin, end) = row["shape"], row["data_offsets"]
        yield rest
        for shape in ([], [-1], [1, count], [count + 1], [str(count)], None, [1e300]):
            yield {**rest, name: {**row, "shape": shape}}
        for dtype in ("F32", "I64", "constructor", None):
            yield {**rest, name: {**row, "dtype": dtype}}
        for span in (
            [begin, end + 1],
            [begin - 1, end],
            [end, begin],
            [begin],
            [begin, str(end)],
            None,
            [0, 1e300],
            ["x", end],
        ):
            yield {**rest, name: {**row, "data_offsets": span}}


def test_a_damaged_file_is_one_message(tab: Tab) -> None:
    """With headers, settings and numbers that cannot be; cut; and changed anywhere, where it is refused or does no harm."""
    good, data = packed(ROWS)
    files = [(good, data), *((header, data) for header in bad_headers()), *(packed(ROWS, about) for about in BAD_ABOUT)]
    files += [packed({**ROWS, name: np.array(row, kind)}) for name, kind, row in BAD_ROWS]
    texts = [(head if isinstance(head, str) else json.dumps(head)).encode() for head, _ in files]
    sent = [list(len(text).to_bytes(8, "little") + text + rest) for text, (_, rest) in zip(texts, files, strict=True)]
    said, others = tab.run(
        """const { readSessionFile } = await import("/session_file.js");
        const { NeighbourModel } = await import("/neighbours.js");
        const others = [], said = async (bytes) => {
          try {
            const file = readSessionFile(bytes), model = new NeighbourModel(file, file.use, "x", "x");
            await model._follow();
            model.scores([0, file.ids.length - 1]);
            return "";
          } catch (error) {
            if (!(error instanceof PocketrecError)) others.push(String(error.stack));
            return error.message;
          }
        };
        const found = await Promise.all(argument.map((bytes) => said(new Uint8Array(bytes))));
        const good = new Uint8Array(await (await fetch("/model.bin")).arrayBuffer());
        const head = 8 + new DataView(good.buffer).getUint32(0, true);
        let seed = 1;
        const below = (limit) => ((seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8) % limit;
        for (let turn = 0; turn < 900; turn++) {
          const cut = turn % 3 === 0, where = turn % 3 === 1 ? head : good.length;
          const bad = cut ? good.slice(0, below(good.length)) : good.slice();
          for (let change = 0; !cut && change < 1 + below(9); change++) bad[below(where)] = below(256);
          const message = await said(bad);
          if (cut && !message) others.push("a file that was cut was read");
        }
        const cut = [good.slice(0, 5), good.slice(0, -9)];
        return [[...found, ...await Promise.all(cut.map((bytes) => message(() => load(bytes))))], others];""",
        sent,
    )
    assert others == []
    assert said[0] == "", "these rows fit"
    assert "not an intact model of pocketrec" in said[-2]
    for text, message in zip([*texts[1:], b"cut"], [*said[1:-2], said[-1]], strict=True):
        assert "Expected: kept sessions of `pocketrec export --model vstan`" in message, text[:300]


def test_the_page_recommends_and_learns_with_kept_sessions(tab: Tab, model: NeighbourModel) -> None:
    """Without LiteRT.js, which is not served; after a reload it knows its user."""
    model = NeighbourModel(model.path)
    order = np.argsort(-model.items.support, kind="stable")
    session = [model.items.ids[order[place - 1]] for place in (1, 5, 2)]
    assert tab.text("#facts") == f"30 items, {len(model.known.index)} kept sessions"
    choose(tab, 1, 5, 2)
    shipped = tab.best()
    assert shipped == [one.item for one in model.recommend(session, 8)]
    for _ in range(3):
        tab.click("#observe")
        tab.wait("() => document.querySelectorAll('#clicks li').length === 0")
        choose(tab, 1, 5, 2)
    assert tab.best() == shipped
    tab.click("#learn")
    tab.wait("() => document.getElementById('learned').textContent.startsWith('It has learned: ')")
    for _ in range(3):
        model.learn(session)
    learned = [one.item for one in model.recommend(session, 8)]
    assert tab.best() == learned
    tab.use("tab.reload().then(() => tab.waitForFunction(() => document.body.dataset.ready)).then(() => true)")
    assert tab.text("#learned").startswith("It has learned: your sessions")
    choose(tab, 1, 5, 2)
    assert tab.best() == learned
    tab.click("#forget")
    tab.wait("() => document.getElementById('kept').textContent.startsWith('Nothing')")
    assert tab.best() == shipped
