"""Files that are written whole or not at all.

How a file gets safely onto the disk lives here; what is in it, and private keys, do not.
"""
