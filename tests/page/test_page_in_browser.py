"""The page in Chromium: opened from the disk without a network, wide and narrow, dark and light, and judged by axe-core."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from browser import ROOT, Browser, missing
from conftest import call
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth

pytest.importorskip("jinja2")
GONE = missing(packages_needed=("playwright-core", "axe-core"))
pytestmark = pytest.mark.skipif(bool(GONE), reason=GONE)

LOOK = """async ({context, argument: [url, axe]}) => {
  const tab = await context.newPage();
  const faults = [], looks = [];
  tab.on("console", (said) => faults.push(said.text()));
  tab.on("pageerror", (error) => faults.push(String(error)));
  tab.on("request", (request) => request.url() === url || request.url().startsWith("data:") || faults.push(request.url()));
  await context.setOffline(true);
  for (const width of [360, 1400]) for (const colorScheme of ["light", "dark"]) {
    await tab.setViewportSize({ width, height: 900 });
    await tab.emulateMedia({ colorScheme });
    await tab.goto(url);
    await tab.getByRole("button", { name: "Open all tables" }).click();
    const judged = (width === 360) === (colorScheme === "light"); // each width and each scheme once: it takes a second
    if (judged) await tab.evaluate(axe);
    looks.push(await tab.evaluate(async (judged) => ({
      wide: document.documentElement.scrollWidth - innerWidth,
      ground: getComputedStyle(document.body).backgroundColor,
      sections: [...document.querySelectorAll("section")].filter((one) => one.offsetHeight > 60).map((one) => one.id),
      tables: document.querySelectorAll("details.numbers:not([open])").length,
      paths: [...document.querySelectorAll(".plot path")].filter((one) => one.getBoundingClientRect().height === 0).length,
      faults: (judged ? (await axe.run()).violations : []).filter((one) => ["serious", "critical"].includes(one.impact))
        .map((one) => `${one.id}: ${one.nodes[0].html}`),
    }), judged));
  }
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await tab.getByRole("button", { name: "Copy the commands" }).click();
  await tab.getByText("Copied.").waitFor();
  const copied = await tab.evaluate(() => navigator.clipboard.readText());
  await tab.emulateMedia({ media: "print" });
  const printed = await tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await tab.close();
  await context.setOffline(false);
  return { faults, looks, copied, printed };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with closing(Browser()) as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A page of a log with lines that were set aside and text ids, with baselines and without a model; as `--json`."""
    folder = tmp_path_factory.mktemp("page")
    log = synth(folder / "clicks.dat", SynthSettings(clicks=3000, seed=3)).path
    lines = log.read_text().splitlines()
    rows = [f"{session},{time},<i>{item}</i>" for session, time, item, _ in (line.split(",") for line in lines)]
    (folder / "log.csv").write_text("\n".join(["s,t,i", *rows, "1,never,2"]) + "\n")
    words = ("--columns", "session=s,item=i,time=t", "--bad-rows", "set-aside", "--holdout", "20d", "--batch-size", 8)
    assert call("prep", folder / "log.csv", *words, "--dataset", folder / "d")[0] == 0
    assert call("evaluate", "--dataset", folder / "d")[0] == 0
    return json.loads(call("report", "--dataset", folder / "d", "--json")[1])


def test_it_is_readable_everywhere_and_asks_nobody(browser: Browser, page: Any) -> None:
    axe = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    found = browser.run(LOOK, [Path(page["page"]).as_uri(), axe])
    assert found["faults"] == []
    for look in found["looks"]:
        assert look["faults"] == []
        assert look["wide"] <= 0
        assert look["sections"] == ["log", "funnel", "split", "training", "accuracy", "model", "made"]
        assert (look["tables"], look["paths"]) == (0, 0)
    light, dark, *narrow = (look["ground"] for look in found["looks"])
    assert light != dark
    assert narrow == [light, dark]
    assert found["printed"] == "rgb(255, 255, 255)"
    assert found["copied"].splitlines() == [one["command"] for one in page["data"]["clicks"]["made"]]
