"""Private keys as objects of cryptography's own classes, wherever they are kept; today in files.

Reading and writing keys lives here, and what protects them at rest. What a key signs does not.
"""
