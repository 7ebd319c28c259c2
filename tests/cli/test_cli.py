"""The command line's text, exit codes and files, through typer's runner and real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Click, call, write_log
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth

COMMANDS = (
    "demo",
    "run",
    "prep",
    "synth",
    "ingest",
    "split",
    "batches",
    "export",
    "verify",
    "inspect",
    "verify-data",
    "recommend",
    "serve",
    "train",
    "tune",
    "evaluate",
    "report",
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "clicks.dat"
    synth(path, SynthSettings(clicks=20_000, seed=3))
    return path


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_every_command_is_documented_and_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        code, text, _ = call(command, "--help")
        assert code == 0
        assert "Usage" in text
        assert f"pocketrec {command}" in readme, command


def test_prep_prints_the_block_and_nothing_else_on_stdout(log: Path, tmp_path: Path) -> None:
    code, out, err = call("prep", log, "--dataset", tmp_path, "--batch-size", 16)
    assert code == 0
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith("\t")] == [
        "Full train set",
        "Test set",
        "Train set",
        "Validation set",
    ]
    assert [line.split(":")[0] for line in lines if line.startswith("\t")] == ["\tEvents", "\tSessions", "\tItems"] * 4
    assert "the tail dropped" in err
    assert call("prep", log, "--dataset", tmp_path, "--batch-size", 16, "--quiet") == (0, out, "")


def test_json_is_one_object(log: Path, tmp_path: Path) -> None:
    code, out, err = call("prep", log, "--dataset", tmp_path, "--batch-size", 16, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["ingest"]["rows"] == 20_000
    assert report["batches"]["sets"]["train_tr"]["steps"] > 0


def test_a_second_run_does_only_what_changed(log: Path, tmp_path: Path) -> None:
    def reused(*options: object) -> list[bool]:
        report = json.loads(call("prep", log, "--dataset", tmp_path, "--json", *options)[1])
        return [report[stage]["reused"] for stage in ("ingest", "split", "batches")]

    assert reused("--batch-size", 16) == [False, False, False]
    assert reused("--batch-size", 16) == [True, True, True]
    assert reused("--batch-size", 8) == [True, True, False]
    assert reused("--batch-size", 8, "--holdout", "2d") == [True, False, False]
    assert reused("--batch-size", 8, "--holdout", "2d", "--fresh") == [False, False, False]


def test_inspect_says_what_would_be_done_again(log: Path, tmp_path: Path) -> None:
    call("prep", log, "--dataset", tmp_path, "--batch-size", 16)
    stages = {
        stage["key"]: stage["state"] for stage in json.loads(call("inspect", "--dataset", tmp_path, "--json")[1])["stages"]
    }
    assert stages == dict.fromkeys(("ingest", "roles", "sequences", "split", "batches_bs16"), "current")
    call("split", "--dataset", tmp_path, "--holdout", "2d")
    assert "batches_bs16" in call("inspect", "--dataset", tmp_path)[1]
    assert "OUT OF DATE: the split has changed since" in call("inspect", "--dataset", tmp_path)[1]
    (tmp_path / "rsc15" / "rsc15_test.txt").write_text("cut")
    assert "DAMAGED" in call("inspect", "--dataset", tmp_path)[1]


def test_batches_of_another_split_do_not_stay_behind(log: Path, tmp_path: Path) -> None:
    """Their codes are those of an item index that is gone."""
    for size in (16, 8):
        call("prep", log, "--dataset", tmp_path, "--batch-size", size)
    assert {path.name for path in (tmp_path / "final").glob("feats_bs*.npy")} == {"feats_bs16.npy", "feats_bs8.npy"}
    call("prep", log, "--dataset", tmp_path, "--batch-size", 8, "--holdout", "2d")
    assert {path.name.partition("_bs")[2].partition(".")[0] for path in (tmp_path / "final").glob("*_bs*")} == {"8"}
    assert call("verify-data", "--dataset", tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00 not a log at all", "line 1"),
        (b"hello\nworld\n", "line 1"),
        (b"1,2014-04-07T10:51:09.277Z,5,0\n2,yesterday,5,0\n", "line 2: the time"),
    ],
)
def test_wrong_input_is_one_message_and_leaves_nothing(tmp_path: Path, content: bytes | None, wrong: str) -> None:
    log = tmp_path / "clicks.dat"
    if content is not None:
        log.write_bytes(content)
    code, out, err = call("prep", log, "--dataset", tmp_path / "deep" / "dataset")
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert wrong in err
    assert not (tmp_path / "deep").exists()


def test_too_few_sessions_names_both_numbers_and_pad_works(tmp_path: Path) -> None:
    day = 86_400_000
    clicks = [Click(session, 1_396_321_200_000 + session * day + k, 7) for session in range(1, 10) for k in range(2)]
    log = write_log(tmp_path / "clicks.dat", clicks)
    code, _, err = call("prep", log, "--dataset", tmp_path / "d", "--batch-size", 50, "--min-item-support", 1)
    assert code == 1
    assert "train_tr has 5 sessions, fewer than the 50 lanes" in err
    assert not (tmp_path / "d" / "final").exists()
    assert (
        call("prep", log, "--dataset", tmp_path / "d", "--batch-size", 50, "--min-item-support", 1, "--tail", "pad")[0] == 0
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("prep",),
        ("prep", "x", "--batch-size", "0"),
        ("prep", "x", "--holdout", "soon"),
        ("prep", "x", "--formats", "csv"),
        ("prep", "x", "--min-session-length", "1"),
        ("split", "--tail", "pad"),
        ("nonsense",),
    ],
)
def test_misuse_is_exit_2(arguments: tuple[str, ...]) -> None:
    assert call(*arguments)[0] == 2


def test_stages_out_of_order_name_the_command_that_is_missing(tmp_path: Path) -> None:
    for command, cure in (("split", "pocketrec ingest"), ("batches", "pocketrec ingest"), ("export", "pocketrec batches")):
        code, _, err = call(command, "--dataset", tmp_path)
        assert code == 1
        assert cure in err
    assert files_below(tmp_path) == []


def test_a_folder_may_have_wildcards_in_its_name(log: Path, tmp_path: Path) -> None:
    assert call("prep", log, "--dataset", tmp_path / "d [*]?", "--batch-size", 16)[0] == 0


def test_an_unknown_zone_is_one_message(log: Path, tmp_path: Path) -> None:
    code, _, err = call("prep", log, "--dataset", tmp_path / "d", "--timezone", "Mars/Olympus")
    assert code == 1
    assert "Mars/Olympus" in err
    assert not (tmp_path / "d").exists()


def test_run_makes_a_model_that_passes_every_rung(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    code, out, _ = call("demo", tmp_path / "demo", "--clicks", 20_000, "--json")
    assert code == 0
    report = json.loads(out)
    assert {rung["verdict"] for rung in report["run"]["verify"]["rungs"]} == {"passed"}
    for made in ("model/gru4rec_bs128.tflite", "model/verify.json", "model/verify.png", "final/items.parquet"):
        assert (tmp_path / "demo" / made).stat().st_size > 0
    page = tmp_path / "demo" / "report.html"
    assert report["run"]["page"] == str(page)
    text = page.read_text(encoding="utf-8")
    assert "The judge passed 17 of 17 rungs" in text
    assert f"{report['run']['verify']['step_seconds'] * 1000:,.3g} ms" in text
    assert "exported without a checkpoint" in text


def test_prep_does_without_tensorflow(log: Path, tmp_path: Path) -> None:
    script = "import sys, pocketrec; pocketrec.prep(sys.argv[1], sys.argv[2]); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", script, str(log), str(tmp_path / "d")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"
