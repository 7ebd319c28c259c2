"""Neural collaborative filtering on ratings: TensorFlow's official NCF recipe, streamed.

What needs no TensorFlow is here: split, negatives, epochs, the network in numpy, ranking. Keras is in `ncf/tf/`.
"""
