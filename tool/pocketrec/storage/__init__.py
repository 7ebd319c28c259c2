"""Files whole or not at all: staging, formats, manifests, the lock, room on the disk, repair.

Everything that the other rooms write goes through this one. It knows where files are (`layout`) and what was written
(`manifest`), not what the numbers in them mean.
"""
