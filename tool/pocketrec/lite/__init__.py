"""Models on the device: export makes them, verify judges them, runtime runs them with LiteRT and numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketrec.lite.runtime import OnDeviceModel as OnDeviceModel

__all__ = ["OnDeviceModel"]


def __getattr__(name: str) -> Any:
    if name != "OnDeviceModel":
        raise AttributeError(f"module 'pocketrec.lite' has no attribute {name!r}")
    from pocketrec.lite.runtime import OnDeviceModel

    return OnDeviceModel
