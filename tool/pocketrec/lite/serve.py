"""`pocketrec serve`: a page in the browser in which a model recommends and learns, served on 127.0.0.1.

Everything that is served is read once, at the start, and nothing else can be asked for: the page (tool/web), the model and
the files of LiteRT.js that it needs. The model runs in the browser; what it learns stays there.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pocketrec
from pocketrec.errors import ModelError, PocketrecError, SettingsError
from pocketrec.lite.bundle import read_bundle
from pocketrec.lite.contract import METADATA
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.neighbour_model import SUFFIX, KnownSessions
from pocketrec.lite.options import ServeSettings
from pocketrec.storage.space import size

LARGEST = 500_000_000
"""Bytes of a model that is still served: a browser holds several times as much of it."""
OLDEST = (2, 5, 2)
"""The first version of LiteRT.js that runs models with variables."""
CURE = "npm install @litertjs/core"
MODULE = ("pocketrec.js", "user.js", "gru4rec.js", "neighbours.js", "model_file.js", "session_file.js", "store.js")
PAGE = ("index.html", "page.css", "page.js", *MODULE)
RUNTIME = (
    "core/dist/index.js",
    "wasm-utils/dist/index.js",
    *(f"core/wasm/litert_wasm_{kind}internal.{end}" for kind in ("", "compat_") for end in ("js", "wasm")),
)
"""What a browser asks for of the npm scope @litertjs."""


@dataclass(frozen=True)
class ServeReport:
    """What is served, once it is.

    Attributes:
        url: of the page.
        model: the model file.
        bytes: its size.
        learns: whether it can learn in the page; one of pocketrec 0.1 cannot.
        runtime: the version of LiteRT.js; "" for kept sessions, which need none.
        taken: the port that was asked for, if it was taken and another one is used.
    """

    url: str
    model: Path
    bytes: int
    learns: bool
    runtime: str
    taken: int | None


def serve(
    model: Path | str,
    settings: ServeSettings = ServeSettings(),
    *,
    started: Callable[[ServeReport], None] = lambda _: None,
) -> None:
    """Serve a page with a model until Ctrl-C.

    Args:
        model: a .tflite that `export` made, or its kept sessions (.safetensors).
        settings: port, browser, and where LiteRT.js is.
        started: called once when the page can be opened.

    Raises:
        ModelError: the model is damaged, of another kind, or too large for a page.
        SettingsError: LiteRT.js is not there or too old, or no port is free.
    """
    import webbrowser  # not at the start of every command, which knows the report

    from pocketrec.lite.file_server import HOST, open_server

    path = Path(model)
    learns, runtime, version = _check(path), dict[str, bytes](), ""
    if path.suffix != SUFFIX:
        scope, version = _find_runtime(settings.runtime)
        runtime = dict(_files(scope))
    content = path.read_bytes()
    files = {"/model.bin": content, **dict(_page()), **runtime}
    with open_server(settings.port, files, _policy(files["/"])) as server:
        port = server.server_port
        url = f"http://{HOST}:{port}/"
        taken = settings.port if settings.port not in (0, port) else None
        with contextlib.suppress(KeyboardInterrupt):
            started(ServeReport(url, path, len(content), learns, version, taken))
            if settings.open:
                webbrowser.open(url)
            server.serve_forever()


def _check(path: Path) -> bool:
    """Whether a model, which must be one that a page can use, can learn."""
    if path.is_file() and (found := path.stat().st_size) > LARGEST:
        raise ModelError(
            f"{path} has {size(found)}.",
            expected=f"at most {size(LARGEST)} for a page",
            do="pocketrec export --weights int8",
        )
    if path.suffix == SUFFIX:
        KnownSessions.read(path)
        return True
    with contextlib.suppress(ValueError, AttributeError):
        if kind := json.loads(read_model(path).metadata.get(METADATA, b"{}")).get("kind"):
            raise ModelError(
                f"{path} is a model of pocketrec {kind}, which recommends to the users that it was trained with.",
                expected="a GRU4Rec, which recommends by what was clicked",
                do="pocketrec export",
            )
    card, _ = read_bundle(path)
    return bool({"learn", "recommend_user"} & card.signatures.keys())


def _find_runtime(given: Path | None) -> tuple[Path, str]:
    """The folder of the npm scope @litertjs, and the version of LiteRT.js in it."""
    here = Path.cwd()
    places = [folder / "node_modules" / "@litertjs" / "core" for folder in (here, *here.parents)]
    if given is not None:
        places = [given, given / "node_modules" / "@litertjs" / "core", given / "@litertjs" / "core"]
    for core in places:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((core / "package.json").read_text(encoding="utf-8"))
            if about["name"] == "@litertjs/core":
                return _scope(core, str(about["version"])), str(about["version"])
    where = f"in {given}" if given else f"in node_modules of {here} or of a folder above it"
    raise SettingsError(
        f"LiteRT.js, which runs the model in the browser, is not {where}.",
        expected=f"the npm package @litertjs/core, {'.'.join(map(str, OLDEST))} or later",
        do=f"{CURE}, or --runtime with the folder in which that was done",
    )


def _scope(core: Path, version: str) -> Path:
    scope = core.resolve().parent
    missing = next((name for name in RUNTIME if not (scope / name).is_file()), None)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST or missing:
        raise SettingsError(
            f"LiteRT.js in {core} is version {version}{f', without {scope / missing}' if missing else ''}.",
            expected=f"{'.'.join(map(str, OLDEST))} or later, whole",
            do=f"{CURE}@latest",
        )
    return scope


def _page() -> Iterator[tuple[str, bytes]]:
    """The page by address: in an installed package beside its modules, in a clone beside the package."""
    package = Path(pocketrec.__file__).parent
    folder = next((one for one in (package / "web", package.parent / "web") if (one / PAGE[0]).is_file()), None)
    if folder is None:
        raise PocketrecError(
            f"The page is not in {package}.",
            expected=f"the folder web with {PAGE[0]}",
            do="pip install --force-reinstall pocketrec",
        )
    for name in PAGE:
        yield f"/{name}", (folder / name).read_bytes()
    yield "/", (folder / PAGE[0]).read_bytes()


def _files(scope: Path) -> Iterator[tuple[str, bytes]]:
    for name in RUNTIME:
        yield f"/runtime/{name}", (scope / name).read_bytes()


def _policy(page: bytes) -> str:
    """The page asks nobody but this server, and runs no script but its own: files, and the import map in it by its hash."""
    found = re.search(rb'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    own = base64.b64encode(hashlib.sha256(found[1] if found else b"").digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{own}'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
