"""What the service tells its operators: the JSON log and Prometheus metrics.

Neither ever holds a token, an e-mail address or a key. What is measured is declared in `catalogue`; what a
number means, or when to worry, is in the documentation and in deploy/observation.
"""
