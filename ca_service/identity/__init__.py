"""Who signs: the issuer file, wildcard matching, claims to Principal, claim templates, proof of possession.

Pure values and functions over verified claims. Not here: verifying tokens, fetching keys, network or clock.
"""
