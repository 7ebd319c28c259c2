"""`pocketrec verify`: judge a .tflite on plain LiteRT, without TensorFlow; the verdict is verify.json and verify.png.

The verdict is a ladder of rungs, each a check that passes, fails or is skipped:

| rung | what must be true |
|---|---|
| file | the flatbuffer is undamaged: every offset is inside the file |
| record | it is the file that the manifest in its folder describes, made for the current item index |
| operators | only TensorFlow Lite builtins, no Select TF (Flex) and no custom operators |
| signatures | all signatures that its settings require are there, with the right names, shapes and dtypes |
| clients | Java, Kotlin, CompiledModel and the browser can call every signature; no operator is newer than the file says |
| load | LiteRT runs the file in a separate process without a crash |
| items | the item ids in the file are those of the item index, in the same order |
| weights | the weights are those that export wrote, and the optimizer begins at zero |
| arithmetic | train: loss, state, weights and slots equal numpy's, also with repeated items, resets and a missing target |
| sampled | train_sampled: the same, with drawn items that are also targets |
| one | train_one: the same for one session |
| learn | learn: the same with other rates, shares of the gradient and pulls to the shipped weights |
| learning | the loss of each signature that learns is finite and falls |
| answers | infer and eval equal numpy's, also where scores are equal |
| recommend | the best items, in order, and their scores equal numpy's |
| cache | recommend_user: the same with a state cache of several shares and sizes, and with hidden items |
| restore | after save, and restore in a new process, all tensors and the next step are the same, bit for bit |

A model from an unknown source cannot crash the judge: the file is read with every offset checked, and LiteRT first runs it
in a separate process.
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
from pocketrec.lite.judge import file_checks, number_checks, process_checks
from pocketrec.lite.judge.case import Case, Trial
from pocketrec.lite.judge.ladder import Check, Rung, climb
from pocketrec.lite.judge.picture import draw
from pocketrec.lite.options import VerifySettings
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.files import content_hash, write_text
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import claim_for_good
from pocketrec.storage.space import room

LADDER: tuple[Check[Case], ...] = (
    Check("file", file_checks.check_file),
    Check("record", file_checks.check_record),
    Check("operators", file_checks.check_operators, needs=("file",)),
    Check("signatures", file_checks.check_signatures, needs=("file",)),
    Check("clients", file_checks.check_clients, needs=("operators", "signatures")),
    Check("load", process_checks.check_load, needs=("operators", "signatures")),
    Check("items", file_checks.check_items, needs=("signatures",)),
    Check("weights", number_checks.check_weights, needs=("load",)),
    Check("arithmetic", number_checks.check_arithmetic, needs=("load",)),
    Check("sampled", number_checks.check_sampled, needs=("load",)),
    Check("one", number_checks.check_one, needs=("load",)),
    Check("learn", number_checks.check_learn, needs=("load",)),
    Check("learning", process_checks.check_learning, needs=("load",)),
    Check("answers", number_checks.check_answers, needs=("load",)),
    Check("recommend", number_checks.check_recommend, needs=("load",)),
    Check("cache", number_checks.check_cache, needs=("load",)),
    Check("restore", process_checks.check_restore, needs=("load",)),
)


@dataclass(frozen=True)
class VerifyReport:
    """The result of a verification; also the content of verify.json.

    Attributes:
        model: the model file.
        xxh3: XXH3-128 of its bytes.
        n_items: number of items in the dataset's item index.
        batch_size: B.
        threads: threads of the interpreter.
        rungs: the results of the checks, in order.
        losses: the loss of each training step, in nats; empty if there was no training.
        step_seconds: median time of a training step; 0 if there was no training.
        peak_bytes: peak memory of the process that trained; 0 if there was no training.
        seconds: wall time of the verification.
        json: path of verify.json.
        picture: path of the loss curve; None if there was no training.
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
        """The rungs that failed, in order."""
        return tuple(rung for rung in self.rungs if rung.verdict == "failed")


def verify(
    dataset: Path | str = "dataset",
    settings: VerifySettings = VerifySettings(),
    *,
    model: Path | str | None = None,
    progress: Progress = SILENT,
) -> VerifyReport:
    """Judge a model on the real batches of its dataset.

    Args:
        dataset: the dataset folder; final/ must have items.parquet and npy batches.
        settings: the batch size, the number of training steps, and the threads.
        model: the model file; DIR/model/gru4rec_bs{B}.tflite if not given.
        progress: is told about each training step.

    Raises:
        DatasetError: the model, the item index or the batches are missing or do not fit each other.
        MissingExtraError: LiteRT or matplotlib is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
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
    with hold(dataset, "verify"):  # so that no other command replaces the model meanwhile
        with room(place.model, "verify"):
            claim_verdict(place.model)
        with tempfile.TemporaryDirectory(prefix="pocketrec-") as folder:
            case = Case(path, place, batches, items, settings, Path(folder), progress)
            rungs = tuple(climb(LADDER, case))
        with room(place.model, "verify"):
            return _write(case, rungs, time.perf_counter() - began)


def claim_verdict(folder: Path) -> None:
    """Claim the files of the verdict in a folder.

    Raises:
        FolderError: one of them is of another origin.
    """
    claim_for_good(folder, "verify", ("verify.json", "verify.png"), _is_verdict)


def _is_verdict(path: Path) -> bool:
    """Whether verify wrote a verify.json, or the verify.png beside one."""
    try:
        return "rungs" in json.loads(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _write(case: Case, rungs: tuple[Rung, ...], seconds: float) -> VerifyReport:
    trial, folder = case.trial or Trial((), {}, (0.0,), 0), case.dataset.model
    picture = folder / "verify.png" if case.trial else None
    report = VerifyReport(
        model=case.path,
        xxh3=content_hash(case.path),
        n_items=case.n_items,
        batch_size=case.settings.batch_size,
        threads=case.settings.threads,
        rungs=rungs,
        losses=tuple(trial.losses),
        step_seconds=statistics.median(trial.seconds),
        peak_bytes=trial.peak_bytes,
        seconds=seconds,
        json=folder / "verify.json",
        picture=picture,
    )
    document = {"passed": report.passed, **asdict(report)}
    write_text(report.json, json.dumps(document, indent=1, default=str) + "\n")
    if picture:
        draw(picture, _title(report), report.losses, process_checks.training_rows(case), rungs)
    else:
        (folder / "verify.png").unlink(missing_ok=True)
    return report


def _title(report: VerifyReport) -> str:
    verdict = "passed" if report.passed else f"failed at {', '.join(rung.name for rung in report.failed)}"
    speed = f"{report.step_seconds * 1e3:,.3g} ms a step, {report.peak_bytes / 1e6:,.0f} MB at most"
    return f"{report.model.name}: {verdict}\n{report.n_items:,} items, B={report.batch_size}, {speed}"
