"""The Python parts of the scripts in this folder."""
