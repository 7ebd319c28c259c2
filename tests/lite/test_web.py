"""Models in a browser: LiteRT.js in Chromium does what the interpreter does, and so does what is in tool/web."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serve import EARLIER, serving
from test_user import HABIT, OTHERS

from browser import ROOT, Browser, LiteRtJs, missing
from clients import plan_of, verdict
from lite_support import fresh, kept, models
from litert_client import use
from pocketrec.dnn.runtime import DnnModel
from pocketrec.lite.journal import Journal
from pocketrec.lite.on_device import Keep, OnDeviceModel, Recommendation
from pocketrec.lite.recommend import recommend
from pocketrec.ncf.runtime import NcfModel
from pocketrec.storage.layout import Dataset

CARDS = {3: EARLIER, **{card: ROOT / "tests" / "fixtures" / f"card-{card}" / "gru4rec.tflite" for card in (4, 5)}}
"""Files of before, by the format of their card."""

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with closing(Browser()) as one:
        yield one


@pytest.fixture(scope="module")
def runtime(browser: Browser) -> Iterator[LiteRtJs]:
    with closing(LiteRtJs(browser)) as one:
        yield one


@pytest.mark.parametrize("name", ["adam", "shared", "separate-adagrad", "shared-adam-float16", "answers"])
def test_litert_js_does_the_same_and_keeps_it(tmp_path: Path, runtime: LiteRtJs, name: str) -> None:
    """28 steps, saved twice, restored in a fresh instance; wrong codes are seen and change nothing."""
    path = fresh(tmp_path, name).tflite(4)
    model = OnDeviceModel(path)
    assert verdict(model, use(runtime.client, path, plan_of(model)), path.with_suffix(".npz")) == "right"


@pytest.mark.parametrize(("name", "kind"), [("frozen", NcfModel), ("rating", DnnModel)])
def test_models_of_ratings_answer_in_a_browser(runtime: LiteRtJs, name: str, kind: type[NcfModel] | type[DnnModel]) -> None:
    """By their signatures of fixed lengths: LiteRT.js cannot change a shape."""
    model = kind(models() / f"{name}.tflite", trusted=True)
    assert verdict(model, use(runtime.client, model.path, plan_of(model)), model.path) == "right"


OPEN = """async ({context, shared, argument: [key, url, files, anew]}) => {
  const tab = shared[key] = await context.newPage();
  if (anew) {
    await tab.goto(`${url}page.css`); // of the same origin, without a model
    await tab.evaluate(() => new Promise((resolve) => {
      indexedDB.deleteDatabase("pocketrec").onsuccess = resolve;
    }));
  }
  for (const [name, path] of Object.entries(files)) {
    await tab.route(`**/${name}`, (route) => (path ? route.fulfill({ path }) : route.fulfill({ status: 404 })));
  }
  tab.faults = [];
  tab.on("pageerror", (error) => tab.faults.push(String(error)));
  tab.on("request", (request) => request.url().startsWith(url) || tab.faults.push(`asks for ${request.url()}`));
  await tab.goto(url);
  await tab.waitForFunction(() => document.body.dataset.ready);
}"""
WITH_MODEL = """
  const { load, PocketrecError } = await import("/pocketrec.js");
  const message = (work) => work().then(() => "", (error) => error instanceof PocketrecError ? error.message : `!${error}`);
"""


class Tab:
    """A tab with the page of `pocketrec serve`."""

    def __init__(self, browser: Browser, url: object, key: str) -> None:
        self._browser, self._url, self._key = browser, url, key

    def open(self, files: dict[str, Path | None] | None = None, *, anew: bool = False) -> None:
        """Open it; `files` are served instead of what the server has: None as a file that is missing.

        With `anew`, what the page kept before is gone.
        """
        sent = {name: path and str(path) for name, path in (files or {}).items()}
        self._browser.run(OPEN, [self._key, self._url, sent, anew])

    def close(self) -> None:
        """Close it, after a look whether its scripts had faults, or it asked for anything from elsewhere."""
        assert self.use("tab.close().then(() => tab.faults)") == []

    def use(self, code: str, argument: Any = None) -> Any:
        """What JavaScript in Node, with Playwright's `tab`, `context` and `argument`, gives."""
        return self._browser.run(f"({{context, shared: {{ {self._key}: tab }}, argument}}) => {code}", argument)

    def find(self, code: str, argument: Any = None) -> Any:
        """What a JavaScript function in the page gives."""
        return self.use(f"tab.evaluate({code}, argument)", argument)

    def run(self, body: str, argument: Any = None) -> Any:
        """The result of the body of an async function in the page, which has `load`, `message` and `argument`."""
        return self.find(f"async (argument) => {{{WITH_MODEL}{body}}}", argument)

    def wait(self, code: str, argument: Any = None) -> None:
        """Until a JavaScript function in the page gives something true, and nothing is at work."""
        done = f"(given) => document.getElementById('main').getAttribute('aria-busy') === 'false' && ({code})(given)"
        self.use(f"tab.waitForFunction({done}, argument).then(() => true)", argument)

    def click(self, selector: str) -> None:
        self.use("tab.click(argument)", selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.use("tab.keyboard.press(argument)", key)

    def best(self) -> list[str]:
        found: list[str] = self.find("() => [...document.querySelectorAll('#best button')].map((one) => one.dataset.id)")
        return found

    def text(self, selector: str) -> str:
        found: str = self.find("(selector) => document.querySelector(selector).innerText", selector)
        return found


def model_of(name: str) -> OnDeviceModel:
    return OnDeviceModel(Dataset(models() / name).tflite(4), trusted=True)


def in_javascript(options: dict[str, Any]) -> dict[str, Any]:
    return {"excludeSeen" if name == "exclude_seen" else name: value for name, value in options.items()}


def check_same(found: list[dict[str, Any]], wanted: list[Recommendation], where: object) -> None:
    """The same items in the same order, with the same scores but for rounding."""
    assert [one["id"] for one in found] == [one.item for one in wanted], where
    assert [one["score"] for one in found] == pytest.approx([one.score for one in wanted], abs=1e-3), where


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Of the page of a real `pocketrec serve` with the model "shared"."""
    words = (model_of("shared").path, "--port", 0, "--runtime", ROOT)
    with serving(*words, cwd=tmp_path_factory.mktemp("serve")) as (report, _):
        yield report["url"]


@pytest.fixture(scope="module")
def module(browser: Browser, url: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A tab for what uses the module alone: each test takes a database of its own. It has other models, good and bad."""
    odd, content = tmp_path_factory.mktemp("odd"), model_of("shared").path.read_bytes()
    place = content.index(model_of("shared").save()["output"].tobytes())
    item = content.index(b"100\n103\n")
    bad = {
        "nan.tflite": content[:place] + np.float32(np.nan).tobytes() + content[place + 4 :],
        "cut.tflite": content[:-100],
        "changed.tflite": content[:item] + b"9" + content[item + 1 :],
    }
    for name, changed in bad.items():
        (odd / name).write_bytes(changed)
    files: dict[str, Path | None] = {
        f"{name}.tflite": model_of(name).path for name in ("shared", "adam", "wider", "answers")
    }
    files |= {name: odd / name for name in bad} | {"frozen.tflite": models() / "frozen.tflite", "none.tflite": None}
    files |= {f"{number}.tflite": path for number, path in CARDS.items()}
    files |= {"kept.safetensors": kept(odd / "kept.safetensors", model_of("shared").items)}
    tab = Tab(browser, url, "module")
    tab.open(files)
    with closing(tab):
        yield tab


@pytest.fixture
def tab(browser: Browser, url: object) -> Iterator[Tab]:
    """A tab with the page, with nothing kept from before."""
    tab = Tab(browser, url, "page")
    tab.open(anew=True)
    with closing(tab):
        yield tab


@pytest.mark.parametrize("name", ["adam", "answers"])
def test_the_module_recommends_as_python_does(module: Tab, name: str) -> None:
    """Also where more is left out than the graph's `recommend` has candidates, and with ids that it does not know."""
    model = model_of(name)
    ids = list(model.items.ids)
    session = [ids[3], "unknown", ids[7], ids[3]]
    order = [one.item for one in model.recommend(session)]
    cases: list[dict[str, Any]] = [
        {},
        {"top": 5, "exclude": session},
        {"top": 5, "exclude": ids[:30]},
        {"top": 9, "allow": ids[-7:], "exclude": ids[-2:]},
        {"exclude": ids},
        {"top": 1, "exclude": order},
    ]
    found = module.run(
        """const [name, session, cases] = argument, model = await load(`/${name}.tflite`), found = [];
        for (const options of cases) found.push(await model.recommend(session, options));
        return found;""",
        [name, session, cases],
    )
    for options, items in zip(cases, found, strict=True):
        check_same(items, model.recommend(session, **options), options)


CONTRARY = [[100, 103] * 8, [100, 103] * 8, [106 + 9 * place for place in range(11)]]
"""What comes last contradicts the rest."""


@pytest.mark.parametrize(
    ("name", "use", "sessions", "keep", "chosen"),
    [
        ("shared", {}, [*OTHERS, *[HABIT] * 8], "better", (True, True)),
        ("adam", {"between": "carry", "seen": "hide"}, [*OTHERS, *[HABIT] * 4], "always", (True, True)),
        ("answers", {"cache_share": 0.9}, [HABIT] * 3, "better", (False, True)),
        ("shared", {}, CONTRARY, "better", (False, True)),
        ("adam", {}, [[100, 103, 100]], "better", (False, False)),
    ],
)
def test_the_module_knows_its_user_as_python_does(
    module: Tab, name: str, use: dict[str, Any], sessions: list[list[int]], keep: Keep, chosen: tuple[bool, bool]
) -> None:
    """The same journal, the same choice of what helps, the same recommendations; in another instance, too, to the bit.

    Calls that overlap wait for each other. What was forgotten is gone.
    """
    model = model_of(name)
    model.use = replace(model.use, **use)
    cases: list[dict[str, Any]] = [
        {}, {"exclude_seen": True}, {"exclude_seen": False}, {"exclude": list(range(100, 211, 3))}, {"allow": [103, 130]},
    ]  # fmt: skip
    found = module.run(
        """const [name, use, sessions, keep, session, cases] = argument;
        const open = () => load(`/${name}.tflite`, { database: "user", use }), model = await open();
        const shipped = await model.recommend(session), all = (one) =>
          Promise.all(cases.map((options) => one.recommend(session, options)));
        const [learned, first] = (await Promise.all([
          ...sessions.map((one) => model.observe(one)), model.learn({ keep }), all(model)])).slice(-2);
        const again = await open(), found = {
          learned, first, journal: model.journal, other: again.learned, second: await all(again) };
        await model.observe([109, 112]);
        found.since = [await all(model), await all(await open())];
        await again.forget();
        const forgotten = [again, await open()];
        found.forgotten = forgotten.map(({ journal, learned }) => [journal.observed, learned === undefined]);
        found.shipped = [shipped, ...await Promise.all(forgotten.map((one) => one.recommend(session)))];
        const { find } = await import("/store.js");
        found.records = Object.values(await find("user", "user")).filter(Boolean).length;
        for (const one of [model, ...forgotten]) await one.close();
        found.closed = await message(() => model.learn());
        return found;""",
        [name, use, sessions, keep, [100, 4711, 103], [in_javascript(one) for one in cases]],
    )
    shipped = model.recommend([100, 4711, 103])
    for one in sessions:
        model.observe(one)
    wanted = asdict(model.learn(keep=keep))
    assert (wanted["kept"], wanted["cached"]) == chosen
    learned = {key: found["learned"].get(key) for key in wanted}
    assert learned == pytest.approx(wanted, abs=1e-4)
    assert found["other"] == found["learned"]
    assert found["journal"] == {"sessions": [list(one) for one in model.journal.sessions], "observed": len(sessions)}
    for options, items in zip(cases, found["first"], strict=True):
        check_same(items, model.recommend([100, 4711, 103], **options), options)
    assert found["second"] == found["first"]
    model.observe([109, 112])
    for options, items in zip(cases, found["since"][0], strict=True):
        check_same(items, model.recommend([100, 4711, 103], **options), options)
    assert found["since"][1] == found["since"][0]
    assert found["forgotten"] == [[0, True]] * 2
    assert found["records"] == 0
    assert found["shipped"][0] == found["shipped"][1] == found["shipped"][2]
    check_same(found["shipped"][0], shipped, "as shipped")
    assert "The model is closed." in found["closed"]


def test_a_journal_is_bounded_as_in_python(module: Tab) -> None:
    """Whole sessions, but for one that is too long by itself; and what came since some were observed."""
    rng = np.random.default_rng(5)
    logs = [
        [[str(item) for item in rng.integers(0, 99, size)] for size in rng.integers(1, 12, count)]
        for count in rng.integers(1, 9, 60)
    ]
    limits = rng.integers(1, 24, 60).tolist()
    found = module.run(
        """const { added, newerThan } = await import("/store.js"), [logs, limits] = argument;
        return logs.map((log, number) => {
          let one = { sessions: [], observed: 0 };
          for (const session of log) one = added(one, session, limits[number]);
          return [one, Array.from({ length: log.length + 2 }, (_, since) => newerThan(one, since))];
        });""",
        [logs, limits],
    )
    for log, limit, (journal, newer) in zip(logs, limits, found, strict=True):
        wanted = Journal(None, limit)
        for session in log:
            wanted.add(session)
        assert journal == {"sessions": [list(one) for one in wanted.sessions], "observed": wanted.observed}
        assert newer == [[list(one) for one in wanted.newer_than(since)] for since in range(len(log) + 2)]


def test_two_pages_have_one_user(module: Tab) -> None:
    """Neither loses what the other has observed, or brings back what the other has forgotten."""
    found = module.run(
        """const open = () => load("/shared.tflite", { database: "pages" }), [one, other] = [await open(), await open()];
        const turns = Array.from({ length: 6 }, (_, turn) => [one, other][turn % 2].observe(argument));
        await Promise.all(turns);
        await one.observe(argument);
        const found = { observed: one.journal.observed, same: [], late: await other.learn({ keep: "always" }) };
        found.kept = other.journal.observed;
        const learning = other.learn({ keep: "always" });
        await one.forget();
        found.meanwhile = await message(() => learning);
        found.forgotten = [other.journal.observed, other.learned === undefined];
        await one.observe(argument);
        await one.learn({ keep: "always" });
        await one.forget();
        await one.observe(argument);
        await other.observe(["100"]);
        found.anew = other.journal;
        return found;""",
        [str(one) for one in HABIT],
    )
    assert (found["observed"], found["kept"], found["late"]["transitions"]) == (7, 7, 35)
    assert "Another page has forgotten meanwhile" in found["meanwhile"]
    assert found["forgotten"] == [0, True]
    assert found["anew"] == {"sessions": [[str(one) for one in HABIT], ["100"]], "observed": 2}


def test_what_is_kept_fits_its_model_or_is_not_used(module: Tab) -> None:
    """A model for another catalogue opens as shipped, and learns the journal again. Damage is said, and has a cure."""
    found = module.run(
        """const at = { database: "kept" }, found = {}, open = (name) => load(`/${name}.tflite`, at);
        const shared = await open("shared");
        await shared.observe(argument);
        await shared.learn({ keep: "always" });
        for (const name of ["wider", "adam"]) {
          const other = await open(name), shipped = await load(`/${name}.tflite`, { ...at, name: "nobody" });
          const state = async () => JSON.stringify(await other.recommend(argument));
          found[name] = [
            other.learned === undefined && other.fault === undefined, other.journal.observed,
            await state() === JSON.stringify(await shipped.recommend(argument))];
          const { kept } = await other.learn({ keep: "always" }), again = await open(name);
          found[name].push(kept, JSON.stringify(await again.recommend(argument)) === await state(), again.learned.kept);
        }
        const { find, write, remove } = await import("/store.js"), { journal, learned } = await find("kept", "user");
        const whole = await open("adam"), good = JSON.stringify(await whole.recommend(argument));
        found.damaged = [];
        const damages = [
          (record) => { record.tensors.output[5] = Infinity; }, (record) => { delete record.tensors.bias; },
          (record) => { record.tensors.step = Int32Array.of(-1); }, (record) => { delete record.tensors; },
          (record) => { record.cache.cache_items[7] = 41; }, (record) => { record.cache.cache_states[7] = NaN; },
          (record) => { record.cache.cache_state = [0]; }, (record) => { delete record.cache; },
          (record) => { delete record.learned; }, (record) => { record.observed = "1"; },
        ];
        for (const damage of damages) {
          const record = structuredClone(learned);
          damage(record);
          await write("kept", "user", "learned", () => record);
          const bad = await open("adam");
          found.damaged.push([
            bad.fault instanceof PocketrecError ? bad.fault.message : `!${bad.fault}`, bad.learned === undefined]);
          await bad.learn({ keep: "always" });
          found.damaged.at(-1).push(bad.fault === undefined, JSON.stringify(await bad.recommend(argument)) === good);
        }
        found.journals = [];
        for (const record of [null, 7, {}, { sessions: [["a"], []], observed: 2 }, { sessions: [["a"], [7]], observed: 2 },
          { sessions: [["a"]], observed: 0 }, { sessions: "a", observed: 1 }]) {
          await write("kept", "user", "journal", () => record);
          const bad = await open("adam");
          const said = [await message(() => bad.observe(["100"])), await message(() => bad.learn())];
          found.journals.push([bad.fault?.message, ...said]);
          await bad.forget();
          await bad.observe(argument);
          found.journals.at(-1).push(bad.fault === undefined && bad.journal.observed);
        }
        return found;""",
        [str(one) for one in HABIT],
    )
    for name, learns in (("wider", False), ("adam", True)):
        assert found[name] == [True, 1, True, learns, True, learns], name
    words = [
        "numbers in output that are not finite", "tensor bias", "the count of steps -1", "The tensor", "tensor cache_items",
        "tensor cache_states", "tensor cache_state ", "tensor cache_states", "The record", "The record",
    ]  # fmt: skip
    for word, (fault, *cured) in zip(words, found["damaged"], strict=True):
        assert word in fault
        assert not fault.startswith("!")
        assert cured == [True, True, True], word
    for fault, observed, learned, cured in found["journals"]:
        assert "The journal that was kept is damaged." in fault
        assert observed == learned == fault
        assert cured == 1


def test_the_module_says_what_is_wrong(module: Tab) -> None:
    found = module.run(
        """const at = { database: "wrong" }, model = await load("/model.bin", at), found = {};
        for (const name of ["cut", "changed", "frozen", "none"]) found[name] = await message(() => load(`/${name}.tflite`));
        const broken = await load("/nan.tflite", { ...at, name: "nan" });
        found.nan = [await message(() => broken.recommend(argument)), await message(() => broken.observe(argument))];
        found.unknown = await message(() => model.recommend(["x", 7]));
        found.nothing = [await message(() => model.recommend([])), await message(() => model.observe([]))];
        found.top = await message(() => model.recommend(argument, { top: 21 }));
        found.keep = await message(() => model.learn({ keep: "no" }));
        found.use = [];
        const bad = [{ passes: 0 }, { passes: Infinity }, { cache_share: NaN }, { between: 1 }, { seen: undefined }];
        for (const use of bad) {
          found.use.push(await message(() => load("/model.bin", { ...at, use })));
        }
        found.kept = [model.journal, model.learned === undefined];
        const real = indexedDB.open;
        indexedDB.open = () => { throw new DOMException("no", "SecurityError"); };
        const alone = await load("/model.bin", at);
        const said = await message(() => alone.observe(["1"]));
        found.alone = [alone.fault?.message, (await alone.recommend(argument)).length, said];
        indexedDB.open = real;
        return found;""",
        [str(one) for one in HABIT],
    )
    assert "there is no archive behind the model" in found["cut"]
    assert "items.txt does not have its checksum" in found["changed"]
    assert "This is a model of ncf" in found["frozen"]
    assert "cannot be loaded: 404" in found["none"]
    for said in found["nan"]:
        assert "What the model recommends are not items" in said
    assert "knows none of the items x, 7" in found["unknown"]
    assert "knows none of the items (there are none)" in found["nothing"][0]
    assert "The session has no items" in found["nothing"][1]
    assert "21 items are asked for" in found["top"]
    assert "`keep` is no" in found["keep"]
    wrong = ["passes is 0", "passes is Infinity", "cache_share is NaN", "between is 1", "seen is undefined"]
    assert [one.splitlines()[0] for one in found["use"]] == [f"Of `use`, {one}." for one in wrong]
    assert found["kept"] == [{"sessions": [], "observed": 0}, True]
    assert "The browser cannot keep or read what belongs to its user" in found["alone"][0]
    assert found["alone"][1:] == [20, found["alone"][0]]


@pytest.mark.parametrize("number", CARDS)
def test_files_of_before_recommend_and_those_that_have_learn_learn(module: Tab, number: int) -> None:
    """Without a state cache: it is not in these files."""
    found = module.run(
        """const model = await load(`/${argument}.tflite`, { database: `of${argument}` }), ids = model.file.ids;
        const session = [ids[3], ids[1], ids[3]];
        for (let turn = 0; turn < 6; turn++) await model.observe(session);
        const learned = await message(() => model.learn({ keep: "always" }));
        const best = await model.recommend(session), few = await model.recommend(session, { exclude: ids.slice(0, -3) });
        return { session, learned: learned || model.learned, trainable: model.trainable, best, few };""",
        number,
    )
    model = OnDeviceModel(CARDS[number], trusted=True)
    assert found["trainable"] == (number == 5)
    if number == 5:
        assert (found["learned"]["kept"], found["learned"]["cached"]) == (True, False)
        for _ in range(6):
            model.observe(found["session"])
        model.learn(keep="always")
    else:
        assert "it is of an earlier pocketrec" in found["learned"]
    check_same(found["best"], model.recommend(found["session"]), number)
    check_same(found["few"], model.recommend(found["session"], exclude=model.items.ids[:-3]), number)


def test_kept_sessions_are_blended_in_as_in_python(module: Tab, tmp_path: Path) -> None:
    """By the same weight; and they have the same user as the network that they are blended with."""
    model = model_of("shared")
    path, ids = kept(tmp_path / "kept.safetensors", model.items), model.items.ids
    session, cases = [ids[5], "4711", ids[0]], [(0.4, []), (0.9, [ids[5], ids[7]]), (0, []), (1, [])]
    found = module.run(
        """const [session, cases] = argument, at = { database: "blend", blend: "/kept.safetensors" }, found = {};
        found.best = await Promise.all(cases.map(([weight, exclude]) =>
          load("/shared.tflite", { ...at, weight }).then((model) => model.recommend(session, { exclude }))));
        const model = await load("/shared.tflite", at);
        await model.observe(session);
        found.same = (await load("/kept.safetensors", { database: "blend" })).journal;
        found.wrong = [await message(() => load("/shared.tflite", { ...at, weight: NaN })),
          await message(() => load("/kept.safetensors", at)),
          await message(() => load("/wider.tflite", at)),
          await message(() => load("/adam.tflite", { ...at, blend: "/shared.tflite" }))];
        return found;""",
        [session, cases],
    )
    for (weight, out), items in zip(cases, found["best"], strict=True):
        wanted = recommend(model.path, session, blend=path, blend_weight=weight, top=len(items), exclude=out).items
        count = 3 if weight == 1 else len(items)  # of what no session holds, the scores are equal
        check_same(items[:count], list(wanted[:count]), weight)
    assert found["same"] == {"sessions": [session], "observed": 1}
    words = ["The weight NaN cannot be", "Kept sessions cannot be", "Sessions of other items", "not intact kept sessions"]
    assert [word in said for word, said in zip(words, found["wrong"], strict=True)] == [True] * 4, found["wrong"]


def test_a_damaged_file_is_one_message(module: Tab) -> None:
    """Cut, and with other bytes at its beginning, at its end and anywhere."""
    others = module.run(
        """const { readModelFile } = await import("/model_file.js");
        const good = new Uint8Array(await (await fetch("/model.bin")).arrayBuffer()), others = [];
        let seed = 1;
        const below = (limit) => ((seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8) % limit;
        for (let turn = 0; turn < 2000; turn++) {
          const bad = turn % 4 ? good.slice() : good.slice(0, below(good.length));
          for (let change = 0; turn % 4 === 1 && change < 40; change++) bad[below(200)] = below(256);
          if (turn % 4 === 2) bad[good.length - 1 - below(900)] = below(256);
          for (let change = 0; turn % 4 === 3 && change < 200; change++) bad[below(good.length)] = 255 * below(2);
          try {
            readModelFile(bad);
          } catch (error) {
            if (!(error instanceof PocketrecError)) others.push(String(error));
          }
        }
        return others;"""
    )
    assert others == []


def test_memory_is_flat_over_5000_steps(module: Tab) -> None:
    """The end of the used part of WebAssembly's memory, as a block that fits nowhere below it shows. The page has turns."""
    ends, pauses = module.run(
        """const { getGlobalLiteRtPromise } = await import("@litertjs/core");
        const { liteRtWasm: wasm } = await getGlobalLiteRtPromise();
        const end = () => {
          const block = wasm._malloc(1 << 26);
          wasm._free(block);
          return [block, wasm.HEAPU8.length];
        };
        const found = [];
        const real = scheduler.yield;
        let pauses = 0;
        scheduler.yield = () => (pauses++, real.call(scheduler));
        for (const passes of [1, 10, 10]) {
          const model = await load("/model.bin", { database: "memory", use: { passes } }), ids = model.file.ids;
          await model.observe(Array.from({ length: 256 }, (_, step) => ids[(step * 7) % ids.length]));
          await model.learn({ keep: "always" });
          await model.recommend(ids, { exclude: ids.slice(0, 30) });
          await model.close();
          found.push(end());
        }
        scheduler.yield = real;
        return [found, pauses];"""
    )
    blocks, sizes = zip(*ends, strict=True)
    assert len(set(sizes)) == 1
    assert max(blocks) - min(blocks) < 1 << 16, "a tensor of one number a step would be more; what is free lies as it may"
    assert pauses > 0


def choose(tab: Tab, *places: int) -> None:
    for place in places:
        chosen = tab.find("() => document.querySelectorAll('#clicks li').length")
        tab.click(f"#catalogue li:nth-child({place}) button")
        tab.wait("(count) => document.querySelectorAll('#clicks li').length === count", chosen + 1)


KEPT = """const { find } = await import("/store.js"); return await find("pocketrec", "user");"""


def test_the_page_learns_from_clicks_and_knows_them_after_a_reload(tab: Tab, module: Tab) -> None:
    model = model_of("shared")
    order = np.argsort(-model.items.support, kind="stable")
    session = [model.items.ids[order[place - 1]] for place in (1, 5, 1, 5, 1, 5, 1, 5, 1, 5)]
    choose(tab, 1, 5, 1, 5, 1, 5, 1, 5, 1, 5)
    before = tab.best()
    assert before == [one.item for one in model.recommend(session, 8)]
    assert tab.text("#status").endswith(f"Next may come {', '.join(before[:3])}.")
    tab.click("#observe")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 0")
    assert tab.text("#kept").startswith("1 session with 10 clicks")
    assert tab.text("#sessions").split() == session
    assert tab.text("#learned") == "It has not learned from them: it is as it came."
    choose(tab, 1)
    plain = tab.best()
    tab.click("#learn")
    tab.wait("() => document.getElementById('learned').textContent.startsWith('It has learned: ')")
    model.observe(session)
    learned = model.learn()
    assert learned.cached
    assert f"loss {learned.before:.2f} before, {learned.after:.2f} after." in tab.text("#learned")
    assert ("its weights have changed" in tab.text("#learned")) == learned.kept
    after = tab.best()
    assert after == [one.item for one in model.recommend(session[:1], 8)] != plain
    assert "It has learned" in tab.text("#status")
    tab.close()
    tab.open()
    assert tab.text("#learned").startswith("It has learned: ")
    assert tab.text("#sessions").split() == session
    choose(tab, 1)
    assert tab.best() == after
    tab.click("#forget")
    tab.wait("() => document.getElementById('kept').textContent.startsWith('Nothing')")
    assert tab.best() == plain
    assert module.run(KEPT) == {}


def test_the_keyboard_alone_is_enough(tab: Tab) -> None:
    """Skip link, search, catalogue, learning and forgetting, by Tab, Enter and the space bar."""
    focused = "() => document.activeElement.id || document.activeElement.dataset.id || document.activeElement.className"
    tab.press("Tab")
    assert tab.find(focused) == "skip"
    tab.press("Tab")
    assert tab.find(focused) == "find"
    tab.press("1", "0", "3", "Tab", "Enter")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 1")
    assert tab.find(focused) == "103"
    tab.press("Space")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 2")
    tab.press("Tab")
    assert tab.find(focused) == "observe"
    assert tab.find("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("Tab", "Tab", "Enter")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 3")
    assert tab.find(focused) == tab.best()[0]
    tab.press("Shift+Tab", "Shift+Tab", "Enter")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 0")
    assert tab.find(focused) == "observe"
    tab.press("Tab", "Tab", "Enter")
    tab.wait("() => document.getElementById('learned').textContent.startsWith('It is as it came: there is too little')")
    assert tab.find(focused) == "learn"
    tab.press("Tab", "Enter")
    tab.wait("() => document.getElementById('kept').textContent.startsWith('Nothing')")
    assert tab.find(focused) == "forget"


TREE = """context.newCDPSession(tab).then((session) => session.send("Accessibility.getFullAXTree")).then(({ nodes }) =>
  nodes.filter((node) => !node.ignored).map((node) => [node.role?.value, node.name?.value ?? ""]))"""


def test_a_screen_reader_hears_names_and_a_narrow_screen_scrolls_in_one_direction(tab: Tab) -> None:
    choose(tab, 1, 5)
    tree = [tuple(node) for node in tab.use(TREE)]
    roles = {role for role, _ in tree}
    assert {"banner", "main", "contentinfo", "status", "alert"} <= roles
    regions = [name for role, name in tree if role == "region"]
    assert regions == ["Catalogue", "This session", "What may come next", "What it knows of you"]
    controls = [(role, name) for role, name in tree if role in ("button", "link", "textbox", "searchbox")]
    assert all(name for _, name in controls)
    assert ("searchbox", "Find an item by its id") in controls
    assert sum(name.endswith(", chosen") for _, name in controls) == 2
    assert {"End and keep it", "Drop it", "Learn from them", "Forget all of it"} <= {name for _, name in controls}
    tab.use("tab.setViewportSize({ width: 320, height: 640 })")
    assert tab.find("() => document.documentElement.scrollWidth") == 320
    tab.click("#drop")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 0")
    assert tab.text("#kept").startswith("Nothing")


def test_the_page_says_what_is_missing(tmp_path: Path, browser: Browser, url: object) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing of the kind")
    cases: list[tuple[dict[str, Path | None], str]] = [
        ({"model.bin": None}, "The model model.bin cannot be loaded: 404"),
        ({"model.bin": tmp_path / "model.bin"}, "This is not an intact model of pocketrec"),
        ({"runtime/core/dist/index.js": None}, "To go on: npm install @litertjs/core"),
        ({"*.wasm": None}, "LiteRT.js does not start"),
    ]
    for files, expected in cases:
        tab = Tab(browser, url, "page")
        tab.open(files)
        assert expected in tab.text("#notice")
        assert tab.find("() => document.getElementById('app').hidden")
        tab.use("tab.close()")


def test_a_journal_of_another_model_is_learned_again_and_a_damaged_one_can_be_forgotten(
    browser: Browser, url: object, module: Tab
) -> None:
    module.run(
        """const model = await load("/adam.tflite");
        await model.forget();
        await model.observe(argument);
        await model.learn({ keep: "always" });""",
        [str(one) for one in HABIT],
    )
    tab = Tab(browser, url, "page")
    tab.open()
    with closing(tab):
        assert tab.text("#learned") == "It has not learned from them: it is as it came."
        tab.click("#learn")
        tab.wait("() => document.getElementById('learned').textContent.includes('next clicks')")
    module.run('const { write } = await import("/store.js"); await write("pocketrec", "user", "journal", () => 7);')
    tab.open()
    with closing(tab):
        assert "The journal that was kept is damaged" in tab.text("#notice")
        assert tab.text("#learned").startswith("What is kept here cannot be used")
        choose(tab, 1)
        tab.click("#observe")
        tab.wait("() => document.getElementById('notice').innerText.includes('It cannot keep the session')")
        tab.click("#forget")
        tab.wait("() => document.getElementById('learned').textContent === ''")
    assert module.run(KEPT) == {}


@pytest.mark.parametrize("learns", [True, False])
def test_a_model_whose_weights_cannot_learn(browser: Browser, url: object, learns: bool) -> None:
    """One of int8 learns by its state cache alone; one that has none only recommends."""
    tab = Tab(browser, url, "page")
    tab.open({"model.bin": model_of("answers").path if learns else EARLIER}, anew=True)
    with closing(tab):
        choose(tab, *[1, 2] * 4)
        assert len(tab.best()) >= 5
        for selector in ("#observe", "#memory"):
            assert tab.find("(selector) => document.querySelector(selector).hidden", selector) != learns
        if learns:
            tab.click("#observe")
            tab.click("#learn")
            tab.wait("() => document.getElementById('learned').textContent.startsWith('It has learned: it looks up')")
        else:
            assert "It is of an earlier pocketrec" in tab.text(".lead")
