"""One tree of what can go wrong, for callers and operators; only web/problems knows how it looks over HTTP.

Each leaf class has a stable slug (`reason`), the cause (its docstring's first line) and a `remedy`. A
message says what failed, what was expected, what came and what to do; it never holds a token, an e-mail
address or a key.
"""

import enum
from typing import ClassVar


class Code(enum.IntEnum):
    """The gRPC status codes this service answers with (google.rpc.Code)."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class CAError(Exception):
    """Something this service can name went wrong."""

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "internal"
    remedy: ClassVar[str] = "Give the request id to the operator, who finds the detail in the service's log."

    def __init__(self, message: str, *, retry_after: int | None = None, **facts: str) -> None:
        """Take a sentence for people, seconds to wait before a retry, and short facts for programs.

        `facts` become `metadata` of the answer: expected and received values, claim names; no personal data.
        """
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.facts = facts


# -- the caller's fault ----------------------------------------------------------------------------


class InvalidRequest(CAError):
    """The request cannot be served as it is."""

    code = Code.INVALID_ARGUMENT
    reason = "invalid-request"
    remedy = "Correct the request as the message says and send it again."


class MalformedRequest(InvalidRequest):
    """The body or a parameter is not of the documented form."""

    reason = "malformed-request"
    remedy = "Send the form that /openapi.json describes for this call."


class BodyTooLarge(InvalidRequest):
    """The body is longer than any honest request."""

    reason = "body-too-large"
    remedy = "Send a smaller body; a signing request stays far below the limit."


class TokenMissing(InvalidRequest):
    """No identity token came with the request."""

    reason = "token-missing"
    remedy = "Send the OIDC token as credentials.oidcIdentityToken or as Authorization: Bearer."


class TokenMalformed(InvalidRequest):
    """The identity token is not a signed JWT of the compact form."""

    reason = "token-malformed"
    remedy = "Send the ID token exactly as the issuer gave it: three base64url parts joined by dots."


class TokenIssuerUnknown(InvalidRequest):
    """The token's issuer is not in this service's issuer file."""

    reason = "token-issuer-unknown"
    remedy = "Use an issuer listed by GET /api/v2/configuration, or ask the operator to add yours."


class TokenAlgorithmRefused(InvalidRequest):
    """The token is signed with an algorithm that is not accepted from this issuer."""

    reason = "token-algorithm-refused"
    remedy = "Have the issuer sign with an asymmetric algorithm the message lists."


class TokenKeyUnknown(InvalidRequest):
    """The token names a signing key that its issuer does not publish, or names none."""

    reason = "token-key-unknown"
    remedy = "Get a fresh token; if it persists, the issuer's jwks_uri lacks the key it signs with."


class TokenKeyRefused(InvalidRequest):
    """The issuer's signing key is too weak to trust or does not fit the algorithm."""

    reason = "token-key-refused"
    remedy = "The issuer must sign with RSA of at least 2048 bits, ECDSA or Ed25519."


class TokenSignatureInvalid(InvalidRequest):
    """The token's signature does not verify with the issuer's published key."""

    reason = "token-signature-invalid"
    remedy = "Get a fresh token; this one was altered or signed with another key."


class TokenAudienceMismatch(InvalidRequest):
    """The token was made for somebody else."""

    reason = "token-audience-mismatch"
    remedy = "Ask the issuer for a token with the audience the message names."


class TokenExpired(InvalidRequest):
    """The token's lifetime is over."""

    reason = "token-expired"
    remedy = "Get a fresh token and check the clock of the machine that asked for it."


class TokenNotYetValid(InvalidRequest):
    """The token says it was issued in, or is valid only from, the future."""

    reason = "token-not-yet-valid"
    remedy = "Check the issuer's clock; more than 30 seconds of difference are not accepted."


class TokenReused(InvalidRequest):
    """The token already got a certificate, and this service takes each token once."""

    reason = "token-reused"
    remedy = "Get a fresh token from the issuer for each certificate."


class TokenClaimMissing(InvalidRequest):
    """The token lacks a claim that its issuer type needs."""

    reason = "token-claim-missing"
    remedy = "Have the issuer put the named claim into the token (often a scope, such as email)."


class TokenClaimInvalid(InvalidRequest):
    """A claim of the token does not have a value this issuer type accepts."""

    reason = "token-claim-invalid"
    remedy = "Correct the claim at the issuer as the message says."


class EmailNotVerified(InvalidRequest):
    """The issuer does not say that the e-mail address was verified."""

    reason = "email-not-verified"
    remedy = "Verify the address at the issuer, so that its tokens carry email_verified: true."


class PublicKeyMalformed(InvalidRequest):
    """The public key cannot be read."""

    reason = "public-key-malformed"
    remedy = "Send a PEM PUBLIC KEY block, or the DER of a SubjectPublicKeyInfo."


class PublicKeyRefused(InvalidRequest):
    """The public key is of a kind, size or weakness that is not certified."""

    reason = "public-key-refused"
    remedy = "Make a fresh key of a listed kind; ECDSA P-256 suits every client."


class CsrMalformed(InvalidRequest):
    """The certificate signing request cannot be read."""

    reason = "csr-malformed"
    remedy = "Send base64 of a PEM CERTIFICATE REQUEST (PKCS#10)."


class ProofInvalid(InvalidRequest):
    """The proof of possession does not verify: the key did not sign this identity."""

    reason = "proof-invalid"
    remedy = "Sign the challenge the message names with the private key whose public half you sent."


class IdentityBlocked(InvalidRequest):
    """This identity, its issuer or its key is blocked from getting certificates."""

    reason = "identity-blocked"
    remedy = "Ask the operator, naming the block's number; only an administrator can lift it."


class IdentityRefused(InvalidRequest):
    """The operator's policy does not give certificates to this identity."""

    reason = "identity-refused"
    remedy = "Ask the operator which identities of this issuer get certificates."


class NotFound(CAError):
    """What the request names does not exist here."""

    code = Code.NOT_FOUND
    reason = "not-found"
    remedy = "Check the path; /openapi.json lists every call."


class PermissionDenied(CAError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED
    reason = "permission-denied"
    remedy = "Ask an operator who holds the role the message names."


class Forbidden(PermissionDenied):
    """The administrator's token is good, and its owner does not hold the role that this call needs."""

    reason = "forbidden"
    remedy = "Ask the operator for the role: an [[admin_role]] in ca.toml gives it."


class AdministrationOff(PermissionDenied):
    """This service is not administered over the network."""

    reason = "administration-off"
    remedy = (
        "The operator adds an [[admin_role]] to ca.toml and restarts, or works on the host with --config."
    )


class SubmissionRefused(PermissionDenied):
    """This log takes entries from its own authority only."""

    reason = "submission-refused"
    remedy = "Get a certificate through /api/v2/signingCert; it is logged before you have it."


class LogFrozen(SubmissionRefused):
    """This shard of the log is frozen: its last tree head is signed."""

    reason = "log-frozen"


class Unauthenticated(CAError):
    """No administrator's token came with the request, or one that is not accepted."""

    code = Code.UNAUTHENTICATED
    reason = "unauthenticated"
    remedy = "Get a token with `ca-service login --server URL` and send it as Authorization: Bearer."


class RateLimited(CAError):
    """Too many requests in too short a time."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "rate-limited"
    remedy = "Wait as long as Retry-After says."


class Unimplemented(CAError):
    """This service does not offer that."""

    code = Code.UNIMPLEMENTED
    reason = "unimplemented"
    remedy = "See /openapi.json for what it offers."


class MethodNotAllowed(Unimplemented):
    """The path exists, and is called with another HTTP method."""

    reason = "method-not-allowed"
    remedy = "Use a method that the answer's Allow header names."


# -- passing trouble -------------------------------------------------------------------------------


class Unavailable(CAError):
    """The service cannot do this right now."""

    code = Code.UNAVAILABLE
    reason = "unavailable"
    remedy = "Try again after the seconds that Retry-After says."


class IssuerUnavailable(Unavailable):
    """The identity provider's keys could not be fetched."""

    reason = "issuer-unavailable"
    remedy = "Try again shortly; the operator sees with `ca-service doctor` why the issuer does not answer."


class Overloaded(Unavailable):
    """More is asked of the service than it can do; nothing was looked at."""

    reason = "overloaded"


class LogBusy(Unavailable):
    """More certificates are waiting to be logged than the log takes at once."""

    reason = "log-busy"


class LogUnavailable(Unavailable):
    """The log could not store the entry, so no certificate was released."""

    reason = "log-unavailable"


class LogClosed(LogUnavailable):
    """This shard of the log is frozen, or its period has not begun or is over."""

    reason = "log-closed"


class StoreUnavailable(Unavailable):
    """The database could not be read or written."""

    reason = "store-unavailable"


class MigrationRefused(StoreUnavailable):
    """The database cannot be changed or moved now: others have it open, or there is no room."""

    reason = "migration-refused"
    remedy = "Do what the message says, then run the command again; nothing was changed."


class SignerUnavailable(Unavailable):
    """There is nobody to sign OCSP answers: the delegate's key or certificate cannot be made or read."""

    reason = "signer-unavailable"
    remedy = "The operator must make [ocsp] delegates_dir writable for the service; then it goes on."


class AuthorityRetired(Unavailable):
    """The issuing certificate's period for issuing is over; it only answers for what it issued."""

    reason = "authority-retired"
    remedy = "The operator must rotate the authority; older certificates keep their CRL and OCSP."


class StatusUnanswered(Unavailable):
    """Nobody gave a trustworthy answer about a certificate's status."""

    reason = "status-unanswered"
    remedy = "Check that the addresses the certificate names can be reached, then ask again."


class ServiceUnreachable(Unavailable):
    """The service that `--server` names, or the identity provider of a login, gave no usable answer."""

    reason = "service-unreachable"
    remedy = "Check its address, its TLS certificate and the network, then ask again."


class LoginFailed(CAError):
    """The browser came back without a token for this service."""

    code = Code.UNAUTHENTICATED
    reason = "login-failed"
    remedy = "Start `ca-service login` again; if it persists, the client is set up wrongly at the provider."


class LogUnreadable(Unavailable):
    """The log, or a mirror of it, did not answer."""

    reason = "log-unreadable"
    remedy = "Check that its address can be reached, then ask again; --log-url names a mirror."


class ClockBehind(Unavailable):
    """The clock of this machine is behind the log's newest entry."""

    reason = "clock-behind"
    remedy = "The operator must correct the clock; nothing is signed until then."


class RolledBack(Unavailable):
    """The database is behind the high-water mark: it was restored, replaced or forked."""

    reason = "rolled-back"
    remedy = "Nothing is signed from it. The operator runs `ca-service recover`; reading the log goes on."


class MarkUnavailable(Unavailable):
    """The high-water mark cannot be read or written: nobody can tell whether the database is the newest."""

    reason = "mark-unavailable"
    remedy = "The operator must make the file that the message names readable and writable; then it goes on."


class MarkMissing(MarkUnavailable):
    """There is no high-water mark where the settings say."""

    reason = "mark-missing"
    remedy = (
        "Mount or restore its volume, or correct [high_water_mark] path. If the file is really lost: when the"
        " database is the newest there is, `ca-service recover --accept-missing-mark`; when it was restored"
        " from a backup, `ca-service recover --crl` with the lists that were published since."
    )


# -- the operator's side ---------------------------------------------------------------------------


class ConfigurationError(CAError):
    """A setting, file or key is missing, wrong or contradicts another; the message names it."""

    code = Code.FAILED_PRECONDITION
    reason = "configuration"
    remedy = "Correct what the message names, then run `ca-service doctor`."


class LogForked(CAError):
    """What was published of the log is not what the database holds."""

    reason = "log-forked"
    remedy = "Stop issuing, find out which of the two is right, and keep both: one of them broke a promise."


class AlreadyExists(CAError):
    """The directory already holds an authority, and keys are never overwritten."""

    code = Code.FAILED_PRECONDITION
    reason = "already-exists"
    remedy = "Choose another directory, or move the old one away yourself."


class DevServerMissing(CAError):
    """No `ca-service dev` runs on the directory, so there is no development identity provider to ask."""

    code = Code.UNAVAILABLE
    reason = "dev-server-missing"
    remedy = "Leave `ca-service dev --dir DIR` running in another terminal, and name the same DIR."
