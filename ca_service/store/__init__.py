"""The database: schema, migrations, one module per aggregate, and the batching sequencer of the log.

SQL lives only here. Not here: rules of the authority, encodings of certificates and leaves, signatures.
"""
