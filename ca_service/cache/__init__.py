"""Rate limits: in this process, or in a Redis that all processes and nodes share.

Redis lives only here. Nothing that must be kept or trusted passes through it: who controls it can let
requests through or hold them up, but mint no identity, key or status.
"""
