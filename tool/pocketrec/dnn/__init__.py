"""A DNN that predicts ratings from users, items, genres, years and tags, on MovieLens or any csv of ratings.

What needs no TensorFlow is here: split, features, the network in numpy, errors and baselines. Keras is in `dnn/tf/`.
"""
