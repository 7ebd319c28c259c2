"""NeuMF in TensorFlow: the Keras model, its training, and the module that is converted to a .tflite."""
