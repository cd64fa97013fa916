"""HTTP: what callers send becomes calls of the authority, and what it answers becomes replies.

Flask lives only here. Not here: any rule of the CA, SQL, Redis, keys or identity providers; each blueprint
is a function that is handed its collaborators.
"""
