"""The version of this pocketrec: stated here, read by everything that writes it down."""

__version__ = "0.2.0"
