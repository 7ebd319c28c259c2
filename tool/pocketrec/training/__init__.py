"""What the training of all networks shares: runs of whole epochs, and the export of a trained network.

What needs TensorFlow is in `training/tf/`.
"""
