"""Models in a browser: LiteRT.js in Chromium does what the interpreter does, and so does what is in tool/web."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serve import serving

from browser import ROOT, Browser, LiteRtJs, missing
from clients import plan_of, verdict
from lite_support import fresh, models
from litert_client import use
from pocketrec.dnn.runtime import DnnModel
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.ncf.runtime import NcfModel
from pocketrec.storage.layout import Dataset

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
    for name, damaged in bad.items():
        (odd / name).write_bytes(damaged)
    files: dict[str, Path | None] = {f"{name}.tflite": model_of(name).path for name in ("adam", "wider", "answers")}
    files |= {name: odd / name for name in bad} | {"frozen.tflite": models() / "frozen.tflite", "none.tflite": None}
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
        wanted = model.recommend(session, **options)
        assert [one["id"] for one in items] == [one.item for one in wanted], options
        assert [one["score"] for one in items] == pytest.approx([one.score for one in wanted], abs=1e-4)


def test_the_module_learns_as_python_does_and_keeps_it(module: Tab) -> None:
    """Calls that overlap wait for each other; what was kept comes back in another instance, bit for bit."""
    model = model_of("shared")
    session = [model.items.ids[code] for code in (1, 5, 2, 5, 9, 30, 1)]
    losses, again = model.learn(session), model.learn(session)
    found = module.run(
        """const at = { database: "learns" };
        const model = await load("/model.tflite", at), other = await load("/model.tflite", at);
        const [losses, again, first, kept] = await Promise.all([
          model.learn(argument), model.learn(argument), model.recommend(argument), model.save({ clicks: argument })]);
        const restored = await other.restore();
        const both = [await model.learn(argument), await other.learn(argument)];
        await other.forget();
        const nothing = await other.restore(), anew = await other.learn(argument);
        await Promise.all([model.close(), other.close()]);
        return { losses, again, first, kept, restored, both, nothing: nothing === undefined, anew,
                 closed: await message(() => model.learn(argument)) };""",
        session,
    )
    assert found["losses"] == pytest.approx(losses, abs=1e-5)
    assert found["again"] == pytest.approx(again, abs=1e-5)
    assert [one["id"] for one in found["first"]] == [one.item for one in model.recommend(session)]
    assert (found["kept"], found["restored"]["steps"]) == ({"steps": 12}, 12)
    assert found["restored"]["about"] == {"clicks": session}
    assert found["both"][0] == found["both"][1]
    assert (found["nothing"], found["anew"]) == (True, found["losses"])
    assert "The model is closed." in found["closed"]


def test_the_module_says_what_is_wrong(module: Tab) -> None:
    """What belongs to another model or is damaged is refused by name, and is neither taken nor replaced."""
    found = module.run(
        """const at = { database: "wrong" }, model = await load("/model.tflite", at), found = {};
        await model.learn(argument);
        await model.save();
        for (const name of ["adam", "wider", "answers"]) {
          const other = await load(`/${name}.tflite`, at);
          found[name] = await message(() => other.restore());
          if (name === "adam") found.replaced = await message(() => other.save());
          if (name === "answers") found.learn = await message(() => other.learn(argument));
        }
        found.still = (await model.restore()).steps;
        for (const name of ["cut", "changed", "frozen", "none"]) found[name] = await message(() => load(`/${name}.tflite`));
        const broken = await load("/nan.tflite", { ...at, name: "nan" });
        found.nan = [await message(() => broken.save()), await message(() => broken.learn(argument))];
        found.unknown = await message(() => model.recommend(["x", 7]));
        found.nothing = await message(() => model.learn([]));
        found.top = await message(() => model.recommend(argument, { top: 21 }));
        const { keep, find } = await import("/store.js");
        const record = await find("wrong", "user");
        record.tensors.output[5] = Infinity;
        await keep("wrong", "user", record, () => {});
        found.damaged = await message(() => model.restore());
        delete record.tensors.bias;
        await keep("wrong", "user", record, () => {});
        found.lacking = await message(() => model.restore());
        found.clone = await message(() => model.save(() => {}));
        return found;""",
        ["100", "103", "106"],
    )
    settings = "What was kept belongs to another model: its settings are"
    assert settings in found["adam"]
    assert settings in found["replaced"]
    assert "its items are" in found["wider"]
    assert settings in found["answers"]
    assert "This model cannot learn: its weights are stored as int8." in found["learn"]
    assert found["still"] == 2
    assert "there is no archive behind the model" in found["cut"]
    assert "items.txt does not have its checksum" in found["changed"]
    assert "This is a model of ncf" in found["frozen"]
    assert "cannot be loaded: 404" in found["none"]
    assert "numbers in output that are not finite" in found["nan"][0]
    assert "The loss of a step is NaN" in found["nan"][1]
    assert "knows none of the items x, 7" in found["unknown"]
    assert "knows none of the items (there are none)" in found["nothing"]
    assert "21 items are asked for" in found["top"]
    assert "numbers in output that are not finite" in found["damaged"]
    assert "The tensor bias that was kept is damaged" in found["lacking"]
    assert "DataCloneError" in found["clone"]


def test_a_damaged_file_is_one_message(module: Tab) -> None:
    """Cut, and with other bytes at its beginning, at its end and anywhere."""
    others = module.run(
        """const { readModelFile } = await import("/model_file.js");
        const good = new Uint8Array(await (await fetch("/model.tflite")).arrayBuffer()), others = [];
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
    """The end of the used part of the WebAssembly memory, as a block that fits nowhere below it shows."""
    ends = module.run(
        """const { getGlobalLiteRtPromise } = await import("@litertjs/core");
        const { liteRtWasm: wasm } = await getGlobalLiteRtPromise();
        const end = () => {
          const block = wasm._malloc(1 << 26);
          wasm._free(block);
          return [block, wasm.HEAPU8.length];
        };
        const model = await load("/model.tflite", { database: "memory" }), ids = model.file.ids, found = [];
        const use = async (steps) => {
          await model.learn(Array.from({ length: steps + 1 }, (_, step) => ids[(step * 7) % ids.length]));
          await model.recommend(ids, { exclude: ids.slice(0, 30) });
          await model.save();
          await model.restore();
        };
        for (const steps of [50, 2500, 2500]) {
          await use(steps);
          found.push(end());
        }
        await model.close();
        return found;"""
    )
    blocks, sizes = zip(*ends, strict=True)
    assert len(set(sizes)) == 1
    assert max(blocks) - min(blocks) < 1 << 16, "a tensor of one number a step would be more; what is free lies as it may"


def choose(tab: Tab, *places: int) -> None:
    for place in places:
        chosen = tab.find("() => document.querySelectorAll('#clicks li').length")
        tab.click(f"#catalogue li:nth-child({place}) button")
        tab.wait("(count) => document.querySelectorAll('#clicks li').length === count", chosen + 1)


KEPT = """const { find } = await import("/store.js"); return await find("pocketrec", "user") ?? null;"""


def test_the_page_learns_from_clicks_and_knows_them_after_a_reload(tab: Tab, module: Tab) -> None:
    model = model_of("shared")
    order = np.argsort(-model.items.support, kind="stable")
    session = [model.items.ids[order[place]] for place in (0, 4, 2)]
    choose(tab, 1, 5, 3)
    before = tab.best()
    assert before == [one.item for one in model.recommend(session, 8, exclude=session)]
    assert tab.text("#status").endswith(f"Next may come {', '.join(before[:3])}.")
    tab.click("#learn")
    tab.wait("() => document.getElementById('learned').textContent.includes('steps in all')")
    after = tab.best()
    assert after != before
    assert "It has learned." in tab.text("#status")
    tab.close()
    tab.open()
    assert "It knows you" in tab.text("#learned")
    assert tab.text("#clicks").split() == session
    assert tab.best() == after
    tab.click("#forget")
    tab.wait("() => document.getElementById('learned').textContent.startsWith('Nothing yet')")
    assert tab.best() == before
    assert module.run(KEPT) is None


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
    assert tab.find(focused) == "learn"
    assert tab.find("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("Enter")
    tab.wait("() => document.getElementById('learned').textContent.includes('steps in all')")
    assert tab.find(focused) == "learn"
    tab.press("Tab", "Tab", "Enter")
    tab.wait("() => document.querySelectorAll('#clicks li').length === 3")
    assert tab.find(focused) == tab.best()[0]
    tab.press(*["Tab"] * 8, "Enter")
    tab.wait("() => document.getElementById('learned').textContent.startsWith('Nothing yet')")
    assert tab.find(focused) == "forget"


TREE = """context.newCDPSession(tab).then((session) => session.send("Accessibility.getFullAXTree")).then(({ nodes }) =>
  nodes.filter((node) => !node.ignored).map((node) => [node.role?.value, node.name?.value ?? ""]))"""


def test_a_screen_reader_hears_names_and_a_narrow_screen_scrolls_in_one_direction(tab: Tab) -> None:
    choose(tab, 1, 5)
    tree = [tuple(node) for node in tab.use(TREE)]
    roles = {role for role, _ in tree}
    assert {"banner", "main", "contentinfo", "status", "alert"} <= roles
    regions = [name for role, name in tree if role == "region"]
    assert regions == ["Catalogue", "Your choice", "What may come next", "What it has learned"]
    controls = [(role, name) for role, name in tree if role in ("button", "link", "textbox", "searchbox")]
    assert all(name for _, name in controls)
    assert ("searchbox", "Find an item by its id") in controls
    assert sum(name.endswith(", chosen") for _, name in controls) == 2
    assert {"Learn from it", "Begin anew", "Forget all of it"} <= {name for _, name in controls}
    tab.use("tab.setViewportSize({ width: 320, height: 640 })")
    assert tab.find("() => document.documentElement.scrollWidth") == 320


def test_the_page_says_what_is_missing(tmp_path: Path, browser: Browser, url: object) -> None:
    (tmp_path / "model.tflite").write_bytes(b"nothing of the kind")
    cases: list[tuple[dict[str, Path | None], str]] = [
        ({"model.tflite": None}, "The model model.tflite cannot be loaded: 404"),
        ({"model.tflite": tmp_path / "model.tflite"}, "This is not an intact model of pocketrec"),
        ({"runtime/core/dist/index.js": None}, "To go on: npm install @litertjs/core"),
        ({"*.wasm": None}, "LiteRT.js does not start"),
    ]
    for files, expected in cases:
        tab = Tab(browser, url, "page")
        tab.open(files)
        assert expected in tab.text("#notice")
        assert tab.find("() => document.getElementById('app').hidden")
        tab.use("tab.close()")


def test_what_another_model_learned_is_not_taken_and_can_be_forgotten(browser: Browser, url: object, module: Tab) -> None:
    another = (
        "const model = await load('/adam.tflite'); await model.forget(); await model.learn(argument); await model.save();"
    )
    module.run(another, ["100", "103"])
    tab = Tab(browser, url, "page")
    tab.open()
    with closing(tab):
        assert "What was kept belongs to another model" in tab.text("#notice")
        assert tab.text("#learned").startswith("What is kept here cannot be used")
        choose(tab, 1, 2)
        tab.click("#learn")
        tab.wait("() => document.getElementById('notice').innerText.includes('It cannot learn')")
        tab.click("#forget")
        tab.wait("() => document.getElementById('learned').textContent.startsWith('Nothing yet')")
    assert module.run(KEPT) is None


def test_a_model_that_cannot_learn_only_recommends(browser: Browser, url: object) -> None:
    tab = Tab(browser, url, "page")
    tab.open({"model.tflite": model_of("answers").path}, anew=True)
    with closing(tab):
        choose(tab, 1)
        assert len(tab.best()) == 8
        assert "This model only recommends" in tab.text("#hint")
        for selector in ("#learn", "#memory"):
            assert tab.find("(selector) => document.querySelector(selector).hidden", selector)
