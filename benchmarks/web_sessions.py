"""Kept sessions in Chromium: how long a page takes to open a file, to learn a session, and for a click.

    python benchmarks/web_sessions.py dataset/model/vstan.safetensors

Clicks are those of sessions of the file, drawn at random; what is recommended is held against `NeighbourModel`.
"""

from __future__ import annotations

import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import typer

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import Browser
from pocketrec.lite.file_server import HOST, open_server
from pocketrec.lite.neighbour_model import NeighbourModel
from pocketrec.lite.serve import MODULE

WEB = Path(__file__).parents[1] / "tool" / "web"
CODE = """async ({ context, argument: [url, sessions] }) => {
  const tab = await context.newPage();
  await tab.goto(url);
  return tab.evaluate(async (sessions) => {
    const { load } = await import("/pocketrec.js"), times = { open: [], learn: [], click: [] };
    const timed = async (name, work) => {
      const begin = performance.now(), found = await work();
      times[name].push(performance.now() - begin);
      return found;
    };
    const bytes = new Uint8Array(await (await fetch("/model.bin")).arrayBuffer());
    let model, best;
    for (let turn = 0; turn < 5; turn++) model = await timed("open", () => load(bytes));
    for (let turn = 0; turn < 3; turn++) {
      best = [];
      times.click = [];
      for (const session of sessions) best.push(await timed("click", () => model.recommend(session)));
    }
    await model.observe(sessions[0]);
    for (let turn = 0; turn < 5; turn++) await timed("learn", () => model.learn());
    return [times, best.map((items) => items.map(({ id }) => id))];
  }, sessions);
}"""


def main(path: Path, clicks: int = 1000) -> None:
    """Print medians, and the times that 5 % of the clicks are above."""
    model = NeighbourModel(path)
    index, ids = model.known.index, model.items.ids
    chosen = np.random.default_rng(3).choice(len(index), clicks)
    sessions = [[ids[code] for code in index.items[index.starts[one] : index.starts[one + 1]]] for one in chosen]
    files = {f"/{name}": (WEB / name).read_bytes() for name in MODULE}
    files |= {"/": b"<!doctype html>", "/model.bin": path.read_bytes()}
    with open_server(0, files, "default-src 'self'") as server, closing(Browser()) as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found: list[Any] = browser.run(CODE, [f"http://{HOST}:{server.server_port}/", sessions])
        server.shutdown()
    times, best = found
    other = sum(items != [one.item for one in model.recommend(one)] for items, one in zip(best, sessions, strict=True))
    print(f"{path.stat().st_size:,} bytes, {len(index):,} sessions; {other} of {clicks} lists are not those of Python")
    for name, some in times.items():
        print(f"{name:<6} {np.median(some):7.2f} ms, 95 % below {np.quantile(some, 0.95):7.2f} ms")


if __name__ == "__main__":
    typer.run(main)
