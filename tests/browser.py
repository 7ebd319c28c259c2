"""Chromium for tests and benchmarks, and a client of LiteRT.js in it that runs any signature of a model by name."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = ("@litertjs/core", "playwright-core")
CURE = "bash .ci/browser installs them"


def missing(root: Path = ROOT, packages_needed: tuple[str, ...] = PACKAGES) -> str:
    """What is not there of what a browser test needs, and the cure; "" where all is."""
    programs = [name for name in ("node", "chromium") if not shutil.which(name)]
    packages = [name for name in packages_needed if not (root / "node_modules" / name / "package.json").is_file()]
    return f"{', '.join(programs + packages)}: not here; {CURE}" if programs or packages else ""


class Browser:
    """A Chromium with an empty profile, driven by Playwright in Node (browser.mjs)."""

    def __init__(self) -> None:
        command = ["node", str(HERE / "browser.mjs"), str(shutil.which("chromium"))]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, code: str, argument: Any = None) -> Any:
        """The result of an async JavaScript function of `{context, shared, argument}`, in Node.

        Raises:
            AssertionError: it threw; the message has the error.
        """
        assert self._node.stdin
        assert self._node.stdout
        self._node.stdin.write(json.dumps([code, argument]) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline() or '{"error": "Chromium or Node has ended"}')
        assert "error" not in answer, answer["error"]
        return answer["found"]

    def close(self) -> None:
        """End Chromium and Node."""
        self._node.communicate()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass


BLANK = """<!doctype html><html lang="en"><title>LiteRT.js</title><body><script type="importmap">{"imports": {
"@litertjs/core": "/@litertjs/core/dist/index.js", "@litertjs/wasm-utils": "/@litertjs/wasm-utils/dist/index.js"}}</script>
<script type="module">
import * as core from "@litertjs/core";
const models = [];
const text = (array) => {
  let found = "";
  for (const byte of new Uint8Array(array.buffer, array.byteOffset, array.byteLength)) found += String.fromCharCode(byte);
  return btoa(found);
};
const bytes = (base64) => Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
window.open = async (base64) => models.push(await core.loadAndCompile(bytes(base64), { accelerator: "wasm" })) - 1;
window.call = async (model, name, given) => {
  const inputs = {};
  for (const [key, [dtype, shape, base64]] of Object.entries(given)) {
    const kind = { int32: Int32Array, float32: Float32Array }[dtype];
    inputs[key] = new core.Tensor(new kind(bytes(base64).buffer), shape);
  }
  const outputs = await models[model].run(name, inputs);
  const found = Object.entries(outputs).map(([key, tensor]) => [key, text(tensor.toTypedArray())]);
  for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
  return Object.fromEntries(found);
};
window.ready = core.loadLiteRt("/@litertjs/core/wasm/").then(() => true, (error) => String(error?.message ?? error));
</script>"""
PAGE = """async ({context, shared, argument: [url, html]}) => {
  await context.route(url, (route) => route.fulfill({ body: html, contentType: "text/html" }));
  shared.runtime = await context.newPage();
  await shared.runtime.goto(url);
  await shared.runtime.waitForFunction(() => window.ready);
  return shared.runtime.evaluate(() => window.ready);
}"""


class LiteRtJs:
    """A page with LiteRT.js: `client` opens a model in it.

    Args:
        browser: the Chromium.
        packages: the folder node_modules that has `@litertjs/core`.
    """

    def __init__(self, browser: Browser, packages: Path = ROOT / "node_modules") -> None:
        self.browser = browser
        handler = functools.partial(_Quiet, directory=str(packages))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}/blank"
        ready = browser.run(PAGE, [url, BLANK])
        if ready is not True:
            raise RuntimeError(f"LiteRT.js does not start: {ready}")

    def client(self, path: str, plan: dict[str, Any]) -> _Client:
        """A model file, opened once more."""
        return _Client(self.browser, path, plan)

    def close(self) -> None:
        """Close the page and end the server."""
        self.browser.run("({shared}) => shared.runtime.close()")
        self._server.shutdown()
        self._server.server_close()


class _Client:
    def __init__(self, browser: Browser, path: str, plan: dict[str, Any]) -> None:
        self._browser, self.plan = browser, plan["signatures"]
        self._model = self._evaluate("(file) => window.open(file)", base64.b64encode(Path(path).read_bytes()).decode())

    def call(self, name: str, **given: Any) -> dict[str, Any]:
        """Run a signature; inputs and outputs are arrays by name, with the dtypes and shapes of the plan."""
        ins, outs = self.plan[name]
        inputs = {key: _sent(np.asarray(given[key], spec["dtype"]).reshape(spec["shape"])) for key, spec in ins.items()}
        found = self._evaluate("([model, name, given]) => window.call(model, name, given)", [self._model, name, inputs])
        return {
            key: np.frombuffer(base64.b64decode(found[key]), spec["dtype"]).reshape(spec["shape"]).copy()
            for key, spec in outs.items()
        }

    def _evaluate(self, code: str, argument: Any) -> Any:
        return self._browser.run(f"({{shared, argument}}) => shared.runtime.evaluate({code}, argument)", argument)


def _sent(value: Any) -> list[Any]:
    return [str(value.dtype), list(value.shape), base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()]
