"""The `ca-service` command, one module per group of verbs.

What a person types and reads lives here: options, tables, sentences, exit codes. What a command does is
asked of the rooms below.
"""

from ca_service.cli.group import main

__all__ = ["main"]
