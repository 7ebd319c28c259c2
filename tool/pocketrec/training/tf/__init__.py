"""What the networks share that needs TensorFlow: the converter to .tflite, fitting with Keras, event files."""
