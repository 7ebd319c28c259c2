"""pocketrec: click logs that do not fit in memory, into batches, into recommenders that keep learning on a phone."""

__version__ = "0.1.0"
