"""Coverage-guided fuzzing of what strangers send: tokens, signing requests, public keys, OCSP requests.

By hand, and for as long as you like: `python -m tests.fuzz token -max_total_time=3600 FOLDER`.
"""
