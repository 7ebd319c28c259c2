"""Networks, one a file. Only this folder, `training` and `lite.export` import TensorFlow."""
