"""Measurements of the running service, beside the floor it cannot go below, in one run on one machine.

Each mode is a module-level function that takes a Plan and returns a Result; `__main__` lists and prints them.
"""
