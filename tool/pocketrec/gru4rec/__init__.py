"""GRU4Rec on the desktop: train it on the batches, measure it, and export it for the phone.

Code that needs no TensorFlow is here: the commands, the candidates of sampled losses, rankings, baselines and checkpoints.
The network is in `gru4rec/tf/`.
"""
