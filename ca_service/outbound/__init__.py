"""The one HTTP client: gets small JSON documents from issuers, and never from an address it should not touch.

Not here: what the documents mean, caching, retries.
"""
