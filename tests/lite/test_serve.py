"""`pocketrec serve` as an HTTP server: what it serves, to whom, and what it refuses. The page itself: test_web.py."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pocketrec
from conftest import call
from lite_support import fresh, kept, models
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.serve import MODULE, PAGE, RUNTIME
from pocketrec.storage.layout import Dataset

ROOT = Path(__file__).parents[2]
EARLIER = ROOT / "tests" / "fixtures" / "pocketrec-0.1" / "dataset" / "model" / "gru4rec_bs4.tflite"


def runtime_in(folder: Path, version: str = "2.5.2") -> Path:
    """Files of the names that LiteRT.js has, as npm installs them; the server only reads them."""
    scope = folder / "node_modules" / "@litertjs"
    for name in RUNTIME:
        (scope / name).parent.mkdir(parents=True, exist_ok=True)
        (scope / name).write_text(f"// {name}")
    (scope / "core" / "package.json").write_text(json.dumps({"name": "@litertjs/core", "version": version}))
    return folder


@contextmanager
def serving(*words: object, cwd: Path) -> Iterator[tuple[dict[str, object], subprocess.Popen[str]]]:
    """`pocketrec serve`, in a process; what it says as JSON once it serves."""
    command = [sys.executable, "-m", "pocketrec.cli", "serve", *map(str, words), "--json"]
    paths = os.pathsep.join([str(Path(pocketrec.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": paths}
    )
    try:
        assert process.stdout
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            said += line
        yield json.loads(said), process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "")
        assert process.returncode == 0


def ask(url: object, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    host = str(url).removeprefix("http://").removesuffix("/")
    connection = http.client.HTTPConnection(host)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_it_serves_the_page_the_model_and_the_runtime_and_nothing_else(tmp_path: Path) -> None:
    model = fresh(tmp_path, "shared").tflite(4)
    content = model.read_bytes()
    deep = runtime_in(tmp_path) / "deep" / "er"
    deep.mkdir(parents=True)
    with serving(model, "--port", 0, cwd=deep) as (report, _):
        url = report["url"]
        assert (report["runtime"], report["learns"], report["taken"]) == ("2.5.2", True, None)
        model.write_bytes(b"another one")
        kinds = {"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"}
        kinds |= {f"/runtime/core/wasm/litert_wasm_internal.{end}": kind for end, kind in
                  (("js", "text/javascript"), ("wasm", "application/wasm"))}  # fmt: skip
        for path, kind in kinds.items():
            status, headers, _ = ask(url, path)
            assert (status, headers.get_content_type(), headers["Cache-Control"]) == (200, kind, "no-store"), path
        assert ask(url, "/model.bin?again")[2] == content, "as it was at the start"
        status, headers, body = ask(url, "/model.bin", "HEAD")
        assert (status, int(headers["Content-Length"]), body) == (200, len(content), b"")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        for path in ("/package.json", "/README.md", "/../pocketrec/version.py", "/%2e%2e/x", "//etc/passwd", "/runtime/"):
            assert ask(url, path)[0] == 404, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(url, "/", method)[0] == 501, method
        port = str(url).rsplit(":", 1)[1].removesuffix("/")
        assert ask(url, "/", Host=f"localhost:{port}")[0] == 200
        for host in ("shop.example", f"shop.example:{port}", "127.0.0.1", ""):
            assert ask(url, "/model.bin", Host=host)[0] == 421, host


def test_the_next_port_is_taken_where_one_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        where = ("--runtime", runtime_in(tmp_path / "other"), "--port", port)
        with serving(Dataset(models() / "answers").tflite(4), *where, cwd=tmp_path) as (report, _):
            assert (report["taken"], report["learns"]) == (port, True), "one of int8 by its state cache"
            assert ask(report["url"], "/")[0] == 200


def test_a_file_of_before_is_served_and_kept_sessions_are_without_a_runtime(tmp_path: Path) -> None:
    with serving(EARLIER, "--port", 0, "--runtime", runtime_in(tmp_path / "other"), cwd=tmp_path) as (report, _):
        assert (report["learns"], ask(report["url"], "/model.bin")[2]) == (False, EARLIER.read_bytes())
    path = kept(tmp_path / "vstan.safetensors", OnDeviceModel(Dataset(models() / "shared").tflite(4)).items)
    with serving(path, "--port", 0, cwd=tmp_path) as (report, _):
        assert (report["learns"], report["runtime"]) == (True, "")
        assert ask(report["url"], "/model.bin")[2] == path.read_bytes()
        assert ask(report["url"], "/neighbours.js")[1].get_content_type() == "text/javascript"
        assert ask(report["url"], "/runtime/core/dist/index.js")[0] == 404


def test_what_a_page_cannot_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runtime_in(tmp_path))
    for name in ("x.tflite", "x.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    for model, expected in (
        (models() / "frozen.tflite", "is a model of pocketrec ncf"),
        (models() / "rating.tflite", "is a model of pocketrec dnn"),
        (tmp_path / "x.safetensors", "x.safetensors cannot be read"),
        (tmp_path / "x.tflite", "not an intact .tflite"),
        (tmp_path / "none.tflite", "none.tflite"),
    ):
        code, out, err = call("serve", model, "--port", "0")
        assert (code, out) == (1, "")
        assert expected in err


def test_a_runtime_that_is_missing_or_too_old_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Dataset(models() / "shared").tflite(4)
    monkeypatch.chdir(tmp_path)
    code, _, err = call("serve", model, "--runtime", tmp_path / "nowhere")
    assert code == 1
    assert f"LiteRT.js, which runs the model in the browser, is not in {tmp_path / 'nowhere'}" in err
    assert "To go on: npm install @litertjs/core" in err
    code, _, err = call("serve", model, "--runtime", runtime_in(tmp_path, "2.0.0"))
    assert code == 1
    assert "is version 2.0.0" in err
    assert "2.5.2 or later" in err
    (runtime_in(tmp_path) / "node_modules" / "@litertjs" / RUNTIME[0]).unlink()
    code, _, err = call("serve", model)
    assert code == 1
    assert f"without {tmp_path.resolve() / 'node_modules' / '@litertjs' / RUNTIME[0]}" in err


def test_the_page_goes_into_the_wheel_and_has_the_packages_version() -> None:
    web = ROOT / "tool" / "web"
    if not web.is_dir():
        pytest.skip("tool/web is not beside the tests")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {"tool/web": "pocketrec/web"}
    about = json.loads((web / "package.json").read_text())
    assert about["version"] == pocketrec.__version__
    assert about["license"] == project["project"]["license"]
    assert {*about["files"]} == {*MODULE}
    assert all((web / name).is_file() for name in PAGE)
