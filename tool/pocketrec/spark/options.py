"""What a user can choose about the preparation on Spark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketrec.errors import SettingsError
from pocketrec.settings import Settings, setting

Engine = Literal["local", "spark"]


@dataclass(frozen=True)
class EngineSettings(Settings):
    """Where a log is prepared."""

    engine: Engine = setting(
        "local",
        "Where to prepare: local, on this machine; or spark, on the cluster of the Spark session, with the log and the "
        "dataset in what its Hadoop can open: s3a://, gs://, hdfs://, file://.",
    )
    batches: bool = setting(
        False, "With --engine spark: make the mini-batches there, too. `pocketrec land` brings them with the rest."
    )
    txt: bool = setting(False, "With --engine spark: write the four rsc15 txt files there, too.")
    parts: int | None = setting(
        None, "With --engine spark: parts that the log is cut into; without it, one for each million rows or so.", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f"--{name}" for name in ("batches", "txt", "parts") if getattr(self, name)]
        if self.engine == "local" and given:
            raise SettingsError(
                f"{' and '.join(given)} is given without --engine spark.",
                expected="--engine spark; on one machine all of it is made in any case",
                do="add --engine spark, or leave it out",
            )
