"""The judge: checks on plain LiteRT, without TensorFlow, that an exported model answers and learns as it should.

It never imports the code that makes models: the arithmetic is written here a second time, in numpy, from the formulas.
"""
