"""A model on the device, with LiteRT and numpy alone: its file, its items, the calls an app makes.

`runtime` runs a GRU4Rec; `frozen` the models of `ncf` and `dnn`, which answer and do not learn. `lite/judge/` verifies
models. Nothing here knows what makes them. README.md describes the signatures for apps.
"""
