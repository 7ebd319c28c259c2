"""GRU4Rec on the desktop: train it on the batches, measure it, export it for the phone.

What needs no TensorFlow is here: the commands, the candidates of sampled losses, rankings, baselines and checkpoints. The
network is in `gru4rec/tf/`.
"""
