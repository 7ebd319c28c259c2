"""Python in a process of its own: what crashes LiteRT, or never returns, ends that process and not this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from pocketrec import version
from pocketrec.progress import Advance


def run_python(arguments: Sequence[str], seconds: float, advance: Advance = lambda _: None) -> str:
    """Run Python with some arguments, and the same pocketrec as here; wait for its end.

    Args:
        arguments: as `python` takes them: `-m`, the name of a module, its arguments.
        seconds: after these it is stopped.
        advance: is told about each line that it prints.

    Returns:
        "" if it ended with status 0; else in words how it ended, and the last line of what it wrote to stderr.
    """
    # It must import the same pocketrec as this process, wherever that was found; -P: and nothing from the folder it is in.
    paths = [str(Path(version.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    # Log level 1 shows the error that ended the process.
    added = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TF_CPP_MIN_LOG_LEVEL": "1"}
    late = threading.Event()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **added},
        )

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            with process:
                for _ in process.stdout or ():
                    advance(1)
        except BaseException:  # an interrupt, too: nobody would wait for it any more
            process.kill()
            raise
        finally:
            timer.cancel()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if not process.returncode:
        return ""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("INFO:")]
    return f"{_ending(process.returncode, late.is_set(), seconds)}: {lines[-1] if lines else 'it said nothing'}"


def _ending(code: int, late: bool, seconds: float) -> str:
    if late:
        return f"was stopped after {seconds:,.0f} s"
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
