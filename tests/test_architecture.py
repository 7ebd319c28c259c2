"""Who may import what: a phone's runtime and the preparation of data never pull in what trains models."""

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
HEAVY = ("tensorflow", "ai_edge_litert", "matplotlib", "polars")


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


def reachable(module: str) -> set[str]:
    """The modules of pocketrec that importing one loads, packages on the way included."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in MODULES and name not in found:
            found.add(name)
            todo += [name.rpartition(".")[0], *imported_by(name, deep=False)]
    return found


def loaded(code: str) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after running some code."""
    report = f"\nimport sys, json\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True, timeout=60)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


HELP = """
import contextlib, sys
from pocketrec.cli import main
sys.argv = ["pocketrec", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("code", ["import pocketrec", "import pocketrec; dir(pocketrec)", HELP])
def test_a_light_start(code: str) -> None:
    assert loaded(code) == []


def test_the_check_of_a_light_start_sees_what_is_loaded() -> None:
    assert loaded("import pocketrec; pocketrec.ingest") == ["polars"]


def test_tensorflow_is_imported_where_models_are_made_and_nowhere_else() -> None:
    users = {name for name in MODULES if any(one.split(".")[0] == "tensorflow" for one in imported_by(name, deep=True))}
    allowed = {name for name in MODULES if name.startswith("pocketrec.models.")}
    assert users, "the search finds those that do"
    assert users <= allowed | {"pocketrec.training", "pocketrec.lite.export"}


JUDGES = ["pocketrec.lite.verify", "pocketrec.lite.runtime", "pocketrec.lite.worker"]
SIDES = [f"pocketrec.{side}.{what}" for side in ("ncf", "dnn") for what in ("verify", "runtime")]
"""The judges and runtimes of models of ratings."""
STEPS = ("train", "export")


@pytest.mark.parametrize("module", [*JUDGES, *SIDES])
def test_what_judges_and_runs_models_does_not_know_what_makes_them(module: str) -> None:
    modules = reachable(module)
    assert "pocketrec.lite.contract" in modules, "the search follows imports"
    names = {one for name in modules for one in imported_by(name, deep=True) if name != "pocketrec"}
    makers = (
        "models",
        "lite.export",
        "lite.plain_export",
        "training",
        "ncf.export",
        "ncf.train",
        "dnn.export",
        "dnn.train",
    )
    forbidden = tuple(f"pocketrec.{name}" for name in makers if name != module.removeprefix("pocketrec."))
    assert [name for name in sorted(names | modules) if name.startswith(forbidden)] == []


def test_what_polars_calls_unstable_is_used_in_engine_alone() -> None:
    unstable = {"PartitionBy", "collect_batches", "register_io_source", "bin_intervals"}
    users = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in unstable)
        or (isinstance(node, ast.ImportFrom) and unstable & {alias.name for alias in node.names})
    }
    assert users == {"pocketrec.engine"}


STAGES = {"pocketrec.partitions", "pocketrec.splitting", "pocketrec.batching"}
"""ingest, split and batches; `pipeline` joins them."""


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_no_stage_imports_another(stage: str) -> None:
    """Nor does anything that a stage is built on: holdout, rsc15, items are no stages. They meet in `parts`."""
    assert set(MODULES) >= STAGES, "a renamed stage would slip through"
    for name in reachable(stage):
        taken = {
            one for one in imported_by(name, deep=True) for other in STAGES if one == other or one.startswith(f"{other}.")
        }
        assert not taken, name


@pytest.mark.parametrize("command", ["evaluate", "predict", "prep"])
def test_the_rating_dnn_is_asked_without_tensorflow(command: str) -> None:
    assert loaded(f"import pocketrec.dnn.{command}, pocketrec.dnn.report") == ["polars"]


def test_sides_do_not_know_each_other() -> None:
    for name in MODULES:
        for own, other in (("ncf", "dnn"), ("dnn", "ncf")):
            if name.startswith(f"pocketrec.{own}."):
                assert not [one for one in imported_by(name, deep=True) if one.startswith(f"pocketrec.{other}")], name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert len(ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or "") > 20
