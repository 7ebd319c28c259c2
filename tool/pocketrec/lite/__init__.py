"""Models as .tflite files: made by `export`, judged by `verify`, used by `runtime`."""
