"""A model on the device, with LiteRT and numpy alone: its file, its items, the calls an app makes.

`runtime` runs a GRU4Rec; `frozen` runs the models of `ncf` and `dnn`, which answer but cannot learn. `judge/` verifies
models. Nothing here imports the code that makes models. README.md describes the signatures for app developers.
"""
