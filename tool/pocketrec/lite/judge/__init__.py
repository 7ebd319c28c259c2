"""The judge: proves on plain LiteRT that an exported model answers and learns as it should.

It never imports what makes models: the arithmetic is written here a second time, in numpy, from the formulas.
"""
