"""The GRU4Rec network in TensorFlow: the cell, the losses, the optimizers, and the model with its signatures."""
