"""The protocols of session-based recommendation: from Parquet parts to mini-batches.

`split` filters and holds out (rsc15), `batches` lays sessions into lanes, `prep` runs both after `ingest`.
"""
