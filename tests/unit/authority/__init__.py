"""The authority's rules, on the real store and real certificates, with a clock that tests set."""
