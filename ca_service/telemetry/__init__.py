"""What the service tells its operators: the JSON log and Prometheus metrics.

Neither ever holds a token, an e-mail address or a key. Import `metrics` only after `multiprocess` has made
its directory: the Prometheus library decides at import whether it counts across processes.
"""
