"""Networks, one a file, and what needs TensorFlow beside them. Only this folder imports it."""
