"""Neural collaborative filtering on ratings: TensorFlow's official NCF recipe, streamed."""
