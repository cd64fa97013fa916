"""What a certificate authority does: issue, log, revoke, publish, answer.

Here live the rules and their order. Not here: HTTP, SQL, files, sockets; those implement `ports`.
"""
