"""The bytes of any log into clicks: one module a kind of log, and `logs`, which chooses the reader.

Columns are renamed to those of `schema` here, once; the later rooms know no other names. `synth` writes a log of its own.
"""
