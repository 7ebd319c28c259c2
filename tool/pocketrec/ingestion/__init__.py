"""From clicks or ratings to Parquet parts of whole sessions, and reading parts back.

`ingest` is the command; later stages read what it wrote through `parts` (clicks) and `ratings`.
"""
