"""`pocketrec report`: one HTML page of a dataset folder, with everything in it and no request to any other place.

The page is made by Jinja2 from page.html.j2, page.css and page.js beside this file. Text is escaped wherever it comes from,
so an id that looks like HTML is an id; what cannot be seen is written as its code. A policy in the page allows its own
script and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError, FolderError, require, visible
from pocketrec.page.blocks import View
from pocketrec.page.figures import figures
from pocketrec.page.views import view_of
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.files import size_of, write_text
from pocketrec.storage.layout import SIDES, Dataset, homes_in
from pocketrec.storage.manifest import read_records
from pocketrec.storage.space import room

HERE = Path(__file__).parent
PAGE = "report.html"
"""Its name in the dataset folder."""
MARK = '<meta name="generator" content="pocketrec report'
"""In the first bytes of every page, by which it is known that it may be replaced."""


@dataclass(frozen=True)
class PageReport:
    """A page that was written.

    Attributes:
        page: the file.
        bytes: its size.
        missing: what it has no figures of, and the command that makes them; one line each.
        data: every figure of the page (`page.figures`).
    """

    page: Path
    bytes: int
    missing: tuple[str, ...]
    data: Mapping[str, Any]


def report(dataset: Path | str = "dataset", *, out: Path | str | None = None, progress: Progress = SILENT) -> PageReport:
    """Write a page of what a dataset folder holds: its log, split, training, accuracy and model.

    What was not made yet, or is of something that has been replaced since, is not shown; the page says which command makes
    it. The dataset may be one that cannot be written, if `out` is elsewhere.

    Args:
        dataset: the dataset folder; at least a log was ingested, or ratings were.
        out: the page; DIR/report.html if not given.
        progress: is told about rows.

    Raises:
        DatasetError: there is nothing in the folder, or a part of the log is damaged, or it was changed meanwhile.
        FolderError, SpaceError: the page cannot be written, or another file has its name.
        MissingExtraError: Jinja2 is not installed.
    """
    require("make a page", "jinja2")
    homes = homes_in(dataset)
    before = _records(homes)
    if not any(before):
        do = f"pocketrec prep CLICKS --dataset {homes[0].root}"
        raise DatasetError(f"{homes[0].root} has nothing to report.", expected="what prep has written", do=do)
    path = homes[0].root / PAGE if out is None else Path(out)
    _check_free(path)
    data = figures(homes, progress)
    if _records(homes) != before:
        raise DatasetError(f"{homes[0].root} was changed while it was read.", do="the same command again")
    html = render(view_of(data), data)
    with room(path.parent, "report"):
        write_text(path, html)
    return PageReport(path, len(html.encode()), tuple(_missing(data)), data)


def render(view: View, data: Mapping[str, Any]) -> str:
    """The page as HTML, which carries `data` along as JSON."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )  # fmt: skip
    script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    carried = json.dumps(data, default=str).replace("<", "\\u003c").replace("\x7f", "\\u007f")
    return environment.get_template("page.html.j2").render(
        view=view, mark=Markup(MARK), script=Markup(script), digest=digest, style=Markup(style), data=Markup(carried)
    )  # fmt: skip


def _records(homes: list[Dataset]) -> list[Mapping[str, Any]]:
    return [read_records(folder) for home in homes for folder in home.homes]


def _check_free(path: Path) -> None:
    """Raise a FolderError if something has the name of the page that is no page."""
    if path.is_symlink() or path.exists():
        ours = size_of(path) is not None and MARK in path.read_bytes()[:2000].decode("utf-8", "replace")
        if not ours:
            raise FolderError(
                f"{path} is in the way: it is no page of pocketrec.",
                expected="a free name, or an earlier page",
                do="move it away, or name another file with --out",
            )


def _missing(data: Mapping[str, Any]) -> list[str]:
    found = []
    for part in ("clicks", *SIDES):
        for name, topic in (data[part] or {}).items():
            if isinstance(topic, dict) and topic["state"] != "current":
                name = name if part == "clicks" else f"{part} {name}"
                found.append(f"{name}: {topic['state']}, {topic['why']}; {topic['command']}")
    return found
