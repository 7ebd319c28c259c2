"""Models in a browser: LiteRT.js in Chromium does what the interpreter does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from browser import Browser, LiteRtJs, missing
from clients import plan_of, verdict
from lite_support import fresh
from litert_client import use
from pocketrec.lite.runtime import OnDeviceModel

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with closing(Browser()) as one:
        yield one


@pytest.fixture(scope="module")
def runtime(browser: Browser) -> Iterator[LiteRtJs]:
    with closing(LiteRtJs(browser)) as one:
        yield one


@pytest.mark.parametrize("name", ["adam", "shared", "separate-adagrad", "shared-adam-float16", "answers"])
def test_litert_js_does_the_same_and_keeps_it(tmp_path: Path, runtime: LiteRtJs, name: str) -> None:
    """28 steps, saved twice, restored in a fresh instance; wrong codes are seen and change nothing."""
    path = fresh(tmp_path, name).tflite(4)
    model = OnDeviceModel(path)
    assert verdict(model, use(runtime.client, path, plan_of(model)), path.with_suffix(".npz")) == "right"
