"""A DNN that predicts ratings: MovieLens with its genres, years and tags, by the whole path of TensorFlow 2."""
