"""Judge a .tflite on plain LiteRT, without TensorFlow: a ladder of rungs, verify.json and verify.png.

| rung | what holds |
|---|---|
| file | the flatbuffer is whole: every offset leads to something that is there |
| record | it is the file that the manifest beside it describes, for the items that are there now |
| operators | TensorFlow Lite builtins only, no Select TF (Flex) and no custom operator |
| signatures | all that its settings ask for, with names, shapes and dtypes |
| load | LiteRT runs it, in a process of its own, which survives |
| items | the item ids in the file are those of the item index, in its order |
| weights | they are those that export drew, the optimizer begins at zero |
| arithmetic | train: loss, state, weights, slots equal numpy's over steps with repeated items, resets, a missing target |
| sampled | train_sampled: the same, with drawn items that are also targets |
| one | train_one: the same for one session |
| learning | the loss of each signature that learns is finite and falls |
| answers | infer and eval equal numpy's, ties included |
| recommend | the best items, in order, and their scores |
| restore | save, fresh process, restore: the same bit for bit, and so is the next step |

A model from elsewhere can fail, not crash the judge: the file is read with every offset checked, and its first run is in a
process of its own.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketrec.errors import DatasetError, require
from pocketrec.lite.inputs import check_codes, open_batches, read_item_list
from pocketrec.lite.judge.case import Case
from pocketrec.lite.judge.file_checks import check_file, check_items, check_operators, check_record, check_signatures
from pocketrec.lite.judge.ladder import Check, Rung, climb
from pocketrec.lite.judge.number_checks import (
    check_answers,
    check_arithmetic,
    check_one,
    check_recommend,
    check_sampled,
    check_weights,
)
from pocketrec.lite.judge.picture import draw
from pocketrec.lite.judge.process_checks import check_learning, check_load, check_restore, training_rows
from pocketrec.lite.options import VerifySettings
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.files import content_hash, write_text
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.space import room

LADDER: tuple[Check[Case], ...] = (
    Check("file", check_file),
    Check("record", check_record),
    Check("operators", check_operators, needs=("file",)),
    Check("signatures", check_signatures, needs=("file",)),
    Check("load", check_load, needs=("operators", "signatures")),
    Check("items", check_items, needs=("signatures",)),
    Check("weights", check_weights, needs=("load",)),
    Check("arithmetic", check_arithmetic, needs=("load",)),
    Check("sampled", check_sampled, needs=("load",)),
    Check("one", check_one, needs=("load",)),
    Check("learning", check_learning, needs=("load",)),
    Check("answers", check_answers, needs=("load",)),
    Check("recommend", check_recommend, needs=("load",)),
    Check("restore", check_restore, needs=("load",)),
)


@dataclass(frozen=True)
class VerifyReport:
    """A finished verification.

    Attributes:
        model: the file judged.
        xxh3: XXH3-128 of its bytes.
        n_items: of the dataset's item index.
        batch_size: B.
        threads: of the interpreter.
        rungs: the ladder, in order.
        losses: of the training steps, in nats; empty if it came to none.
        step_seconds: median time of a train step; 0 if it came to none.
        peak_bytes: most memory of the process that trained; 0 if it came to none.
        seconds: wall time of the whole.
        json: where this report is.
        picture: where the loss curve is, if there is one.
    """

    model: Path
    xxh3: str
    n_items: int
    batch_size: int
    threads: int
    rungs: tuple[Rung, ...]
    losses: tuple[float, ...]
    step_seconds: float
    peak_bytes: int
    seconds: float
    json: Path
    picture: Path | None

    @property
    def passed(self) -> bool:
        """Whether no rung failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Rung, ...]:
        """The rungs that failed."""
        return tuple(rung for rung in self.rungs if rung.verdict == "failed")


def verify(
    dataset: Path | str = "dataset",
    settings: VerifySettings = VerifySettings(),
    *,
    model: Path | str | None = None,
    progress: Progress = SILENT,
) -> VerifyReport:
    """Judge a dataset's model on its real batches.

    Args:
        dataset: the dataset folder; final/ must hold items.parquet and the batches.
        settings: of the batches, and how long is trained for the loss.
        model: another file than DIR/model/gru4rec_bs{B}.tflite.
        progress: who watches.

    Raises:
        DatasetError: the model, the item index or the batches are missing or do not fit each other.
        MissingExtraError: LiteRT or matplotlib is not installed.
        BusyError: another process is at work in the dataset folder.
        SpaceError: the disk is full.
        FolderError: the dataset folder cannot be written.
    """
    began, place = time.perf_counter(), Dataset(Path(dataset))
    require("verify a model", "ai_edge_litert", "matplotlib")
    batch_size = settings.batch_size
    path = Path(model) if model else place.tflite(batch_size)
    if not path.is_file():
        do = f"pocketrec export --dataset {place.root} --batch-size {batch_size}"
        raise DatasetError(f"{path} is missing.", expected="a model file", do=do)
    items, batches = read_item_list(place), open_batches(place, batch_size)
    check_codes(batches, len(items.ids), place)
    with hold(dataset, "verify"):  # nobody replaces what is judged
        with tempfile.TemporaryDirectory(prefix="pocketrec-") as folder:
            case = Case(path, place, batches, items, batch_size, settings.steps, settings.threads, Path(folder), progress)
            rungs = tuple(climb(LADDER, case))
        with room(place.model, "verify"):
            return _write(case, rungs, time.perf_counter() - began)


def _write(case: Case, rungs: tuple[Rung, ...], seconds: float) -> VerifyReport:
    trial, folder = case.trial, case.dataset.model
    picture = folder / "verify.png" if trial else None
    report = VerifyReport(
        model=case.path,
        xxh3=content_hash(case.path),
        n_items=case.n_items,
        batch_size=case.batch_size,
        threads=case.threads,
        rungs=rungs,
        losses=trial.losses if trial else (),
        step_seconds=statistics.median(trial.seconds) if trial else 0.0,
        peak_bytes=trial.peak_bytes if trial else 0,
        seconds=seconds,
        json=folder / "verify.json",
        picture=picture,
    )
    if picture:
        draw(picture, _title(report), report.losses, training_rows(case), rungs)
    else:
        (folder / "verify.png").unlink(missing_ok=True)
    document = {"passed": report.passed, **asdict(report)}
    write_text(report.json, json.dumps(document, indent=1, default=str) + "\n")
    return report


def _title(report: VerifyReport) -> str:
    verdict = "passed" if report.passed else f"failed at {', '.join(rung.name for rung in report.failed)}"
    speed = f"{report.step_seconds * 1e3:,.3g} ms a step, {report.peak_bytes / 1e6:,.0f} MB at most"
    return f"{report.model.name}: {verdict}\n{report.n_items:,} items, B={report.batch_size}, {speed}"
