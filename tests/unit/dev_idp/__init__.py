"""The development identity provider, in a Flask application of its own."""
