"""The house: which room may import which, and what may be loaded when. The table is the law, one test reads it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pocketrec

PACKAGE = Path(pocketrec.__file__).parent
MODULES = {
    ".".join(("pocketrec", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
HEAVY = ("tensorflow", "ai_edge_litert", "matplotlib", "polars", "jinja2", "pyspark")

GROUND = ("errors", "progress", "schema", "durations", "parallel", "settings", "version")
"""Files in the package's root that everybody may import, and that import one another alone."""

ROOMS: dict[str, tuple[str, ...]] = {
    "storage": (),
    "sources": ("storage",),
    "ingestion": ("sources", "storage"),
    "sessions": ("ingestion", "sources", "storage"),
    "spark": ("sessions", "ingestion", "sources", "storage"),
    "lite": ("storage",),
    "lite/judge": ("lite", "storage"),
    "training": ("lite", "lite/judge", "storage"),
    "training/tf": ("training", "lite", "storage"),
    "gru4rec": (
        "gru4rec/tf",
        "training",
        "training/tf",
        "sessions",
        "ingestion",
        "sources",
        "lite",
        "lite/judge",
        "storage",
    ),
    "gru4rec/tf": ("gru4rec", "training", "training/tf", "lite", "storage"),
    "ncf": ("ncf/tf", "training", "training/tf", "ingestion", "sources", "lite", "lite/judge", "storage"),
    "ncf/tf": ("ncf", "training", "training/tf", "lite", "storage"),
    "dnn": ("dnn/tf", "training", "training/tf", "ingestion", "sources", "lite", "lite/judge", "storage"),
    "dnn/tf": ("dnn", "training", "training/tf", "lite", "storage"),
    "page": ("dnn", "ncf", "gru4rec", "lite", "lite/judge", "training", "sessions", "ingestion", "sources", "storage"),
    "cli": (
        "page",
        "spark",
        "dnn",
        "ncf",
        "gru4rec",
        "lite",
        "lite/judge",
        "training",
        "sessions",
        "ingestion",
        "sources",
        "storage",
    ),
}
"""Room -> rooms it may import. A room may always import itself and the ground. What needs TensorFlow is in a room `tf`,
which the room around it calls only when a command needs it."""


def room_of(module: str) -> str:
    """The room of a module: a folder of `ROOMS`; "ground", "face" or "" for modules in the root."""
    path = MODULES[module].relative_to(PACKAGE)
    if len(path.parts) > 1:
        return "/".join(path.parts[:-1])
    return "face" if path.stem == "__init__" else "ground" if path.stem in GROUND else ""


def imports(node: ast.AST, *, deep: bool) -> Iterator[str]:
    """Names imported below a node, `from a import b` as a and a.b; not those for type checkers only.

    Args:
        node: a module or a part of one.
        deep: also what functions import when they are called.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield child.module or ""
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from imports(ast.Module([other], []), deep=deep)
        elif deep or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(child, deep=deep)


def imported_by(module: str, *, deep: bool) -> set[str]:
    return set(imports(ast.parse(MODULES[module].read_text(encoding="utf-8")), deep=deep))


def modules_imported_by(module: str, *, deep: bool) -> set[str]:
    """Modules of pocketrec; a package that is only named on the way to one of its modules does not count."""
    names = {name for name in imported_by(module, deep=deep) if name in MODULES}
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)} - {module}


def test_every_module_is_in_a_room_and_imports_only_downward() -> None:
    wrong = [
        f"{name} is in no room of ROOMS, and is not GROUND"
        for name in MODULES
        if room_of(name) not in (*ROOMS, "ground", "face")
    ]
    assert not wrong
    for name in sorted(MODULES):
        room = room_of(name)
        allowed = {"ground", room, *(ROOMS.get(room, ()))}
        for other in modules_imported_by(name, deep=room != "face"):
            if room_of(other) not in allowed:
                wrong.append(f"{name} ({room}) imports {other} ({room_of(other)})")
    assert not wrong, "\n".join(wrong)
    assert any(room_of(other) == "storage" for other in modules_imported_by("pocketrec.sessions.split", deep=True))


def test_rooms_and_modules_form_no_circle() -> None:
    """At import time: what a function imports when it is called is not counted, since its module is whole by then."""
    left = {name: modules_imported_by(name, deep=False) for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left, "these import each other"
    rooms = {room: {other for other in allowed if room not in ROOMS[other]} for room, allowed in ROOMS.items()}
    while free := [room for room, needs in rooms.items() if not needs & rooms.keys()]:
        for room in free:
            del rooms[room]
    assert not rooms, "only a room and its own tf/ may know each other"


def test_the_root_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def loaded(code: str) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after running some code."""
    report = f"\nimport sys, json\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


HELP = """
import contextlib, sys
from pocketrec.cli import main
sys.argv = ["pocketrec", *{words}, "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import pocketrec",
        "import pocketrec; dir(pocketrec)",
        *(HELP.format(words=words) for words in ([], ["prep"], ["dnn"])),
    ],
)
def test_a_light_start(code: str) -> None:
    assert loaded(code) == []


def test_the_check_of_a_light_start_sees_what_is_loaded() -> None:
    assert loaded("import pocketrec; pocketrec.ingest") == ["polars"]


def test_tensorflow_is_imported_below_tf_alone() -> None:
    users = {
        name
        for name in MODULES
        if any(one.split(".")[0] in ("tensorflow", "keras") for one in imported_by(name, deep=True))
    }
    assert len(users) > 5, "the search finds those that do"
    assert not [name for name in users if ".tf." not in name]


def test_what_polars_calls_unstable_is_used_in_one_module() -> None:
    unstable = {"PartitionBy", "collect_batches", "register_io_source", "bin_intervals"}
    users = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in unstable)
        or (isinstance(node, ast.ImportFrom) and unstable & {alias.name for alias in node.names})
    }
    assert users == {"pocketrec.sources.polars_engine"}


STAGES = {"pocketrec.ingestion.ingest", "pocketrec.sessions.split", "pocketrec.sessions.batches"}
"""What `prep` joins. They meet in the files that they leave, never in each other's code."""


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_no_stage_imports_another(stage: str) -> None:
    assert set(MODULES) >= STAGES, "a renamed stage would slip through"
    found, todo = set(), [stage]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += modules_imported_by(name, deep=True)
    assert found & STAGES == {stage}


@pytest.mark.parametrize("command", ["evaluate", "predict", "prep"])
def test_the_rating_dnn_is_asked_without_tensorflow(command: str) -> None:
    assert loaded(f"import pocketrec.dnn.{command}, pocketrec.cli.dnn_reports") == ["polars"]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert len(ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or "") > 20


def test_tests_lie_in_rooms_of_the_same_names() -> None:
    tests = Path(__file__).parent
    folders = {str(path.parent.relative_to(tests)) for path in tests.rglob("test_*.py")} - {".", "benchmarks"}
    assert folders <= set(ROOMS)
