"""The whole service in its own processes, over HTTP and by its command: on one node, and on two behind nginx.

What runs on one node alone, and why, is listed in conftest.py, which refuses a test that says neither.
"""
