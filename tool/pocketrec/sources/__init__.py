"""Kinds of logs: each module reads or makes one kind, and names its columns once and for all."""
