"""The command line: commands, their options, what they print, and how signals and memory are set up.

Everything that reads a terminal or writes to one is in this room. A command parses its options, calls the library function
of the same name, and prints the report that comes back. All rooms may be imported here; nobody imports this one.
"""
