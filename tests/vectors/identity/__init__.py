"""Claims of each provider, and the subject and extensions that Fulcio's rules make of them, in DER."""
