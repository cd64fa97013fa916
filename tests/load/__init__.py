"""Load as it comes in practice, by locust, and more than the service can do: `scripts/load` runs it.

Here is who asks what, how often, and how it is judged. What a single request costs is scripts/bench's.
"""
