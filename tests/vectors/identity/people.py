"""Claims of people and workloads, with the texts that their issuers' types make of them, by hand."""

from tests.vectors.identity.cases import WITHOUT, Case, changed, refused

_EMAIL = "someone@example.com"
GOOGLE: Case = {
    "name": "a Google account",
    "issuer": "https://accounts.google.com",
    "claims": {
        "azp": "237800849078-rmntmr1b2tcu20kpid66q5dbh1vdt7aj.apps.googleusercontent.com",
        "aud": "sigstore",
        "sub": "110248495921238986420",
        "hd": "example.com",
        "email": _EMAIL,
        "email_verified": True,
        "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
        "nonce": "n-0S6_WzA2Mj",
        "name": "Some One",
        "picture": "https://lh3.googleusercontent.com/a/photo",
    },
    "subject": ("email", _EMAIL),
    "challenges": [_EMAIL],
    "extensions": {},
}
_CONNECTOR = "https://github.com/login/oauth"
GOOGLE_CASES = [
    GOOGLE,
    changed(
        GOOGLE,
        "verified as text, and a plus in the address",
        claims={"email_verified": "true", "email": "some.one+sign@sub.example.co.uk"},
        extensions={},
        subject=("email", "some.one+sign@sub.example.co.uk"),
        challenges=["some.one+sign@sub.example.co.uk"],
    ),
    changed(
        GOOGLE,
        "a federated account, whose provider becomes the issuer",
        issuer="https://oauth2.sigstore.example/auth",
        members={"type": "email", "issuer-claim": "$.federated_claims.connector_id"},
        claims={"federated_claims": {"connector_id": _CONNECTOR, "user_id": "31"}},
        extensions={1: _CONNECTOR, 8: _CONNECTOR},
    ),
    refused(GOOGLE, "not verified", "email-not-verified", "email_verified", email_verified=False),
    refused(GOOGLE, "nothing said of it", "email-not-verified", "email_verified", email_verified=WITHOUT),
    refused(GOOGLE, "no address", "token-claim-missing", "email", email=WITHOUT),
    refused(
        GOOGLE, "no plain address", "token-claim-invalid", "email", email="Some One <someone@example.com>"
    ),
]

_ACCOUNT = "https://kubernetes.io/namespaces/build/serviceaccounts/signer"
EKS: Case = {
    "name": "Amazon EKS",
    "issuer": "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE",
    "claims": {
        "aud": ["sigstore"],
        "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
        "kubernetes.io": {
            "namespace": "build",
            "node": {"name": "ip-10-0-0-1.ec2.internal", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
            "pod": {"name": "signer-1234", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
            "serviceaccount": {"name": "signer", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
            "warnafter": 1_800_000_000,
        },
        "sub": "system:serviceaccount:build:signer",
    },
    "subject": ("uri", _ACCOUNT),
    "extensions": {},
}
_TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
_CLUSTER = "3e0c5a1d-7b2f-4c8e-9a6d-5f4e3d2c1b0a"
KUBERNETES_CASES = [
    EKS,
    changed(
        EKS,
        "Google GKE, a service account with dots",
        issuer="https://container.googleapis.com/v1/projects/my-project/locations/us-central1-a/clusters/my-cluster",
        claims={
            "kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "sign.er-1", "uid": "x"}},
            "sub": "system:serviceaccount:ci:sign.er-1",
        },
        extensions={},
        subject=("uri", "https://kubernetes.io/namespaces/ci/serviceaccounts/sign.er-1"),
    ),
    *(
        changed(EKS, f"Azure AKS, {form}", issuer=issuer, claims={}, extensions={})
        for form, issuer in (
            ("with a slash at the end", f"https://eastus.oic.prod-aks.azure.com/{_TENANT}/{_CLUSTER}/"),
            ("without", f"https://westeurope.oic.prod-aks.azure.com/{_TENANT}/{_CLUSTER}"),
            ("without a region", f"https://oidc.prod-aks.azure.com/{_TENANT}/"),
        )
    ),
    refused(EKS, "no claim of its own", "token-claim-missing", "kubernetes.io", **{"kubernetes.io": WITHOUT}),
    refused(
        EKS,
        "no account",
        "token-claim-missing",
        "kubernetes.io/serviceaccount.name",
        **{"kubernetes.io": {"namespace": "build"}},
    ),
]

_PATH = "720909c9f5279097d847ad02a2f24ba8f59de36a/b6461e99e132298f"
CHAINGUARD: Case = {
    "name": "an identity",
    "issuer": "https://issuer.enforce.dev",
    "claims": {"aud": "sigstore", "sub": _PATH, "act": {"aud": "x", "iss": "y", "sub": "z"}},
    "subject": ("uri", f"https://issuer.enforce.dev/{_PATH}"),
    "extensions": {},
}
CHAINGUARD_CASES = [
    CHAINGUARD,
    changed(
        CHAINGUARD,
        "an identity with an address, which is what its client signs",
        claims={"email": _EMAIL, "email_verified": True},
        extensions={},
        challenges=[_EMAIL],
    ),
    refused(CHAINGUARD, "a way up", "token-claim-invalid", "sub", sub="a/../b"),
]

SPIFFE: Case = {
    "name": "a workload",
    "issuer": "https://spire.example.com",
    "members": {"type": "spiffe", "spiffe-trust-domain": "example.com"},
    "claims": {"aud": ["sigstore"], "sub": "spiffe://example.com/ns/prod/sa/Signer_1.x"},
    "subject": ("uri", "spiffe://example.com/ns/prod/sa/Signer_1.x"),
    "extensions": {},
}
URI: Case = {
    "name": "a user of an application",
    "issuer": "https://accounts.example.co.uk",
    "members": {"type": "uri", "subject-domain": "https://app.example.co.uk"},
    "claims": {"aud": "sigstore", "sub": "https://app.example.co.uk/users/1?x=y#z"},
    "subject": ("uri", "https://app.example.co.uk/users/1?x=y#z"),
    "extensions": {},
}
USERNAME: Case = {
    "name": "a user name",
    "issuer": "https://accounts.example.com",
    "members": {"type": "username", "subject-domain": "example.com"},
    "claims": {"aud": "sigstore", "sub": "j.doe"},
    "subject": ("username", "j.doe!example.com"),
    "extensions": {},
}
OTHER_CASES = {
    "spiffe": [
        SPIFFE,
        refused(SPIFFE, "another domain", "token-claim-invalid", "sub", sub="spiffe://other.com/a"),
    ],
    "uri": [
        URI,
        changed(
            URI,
            "characters no URI has, and an address beside, which clients sign instead",
            claims={"sub": "https://app.example.co.uk/users/jörg doe", "email": _EMAIL},
            extensions={},
            subject=("uri", "https://app.example.co.uk/users/j%C3%B6rg%20doe"),
            challenges=["https://app.example.co.uk/users/jörg doe", _EMAIL],
        ),
        refused(URI, "another host", "token-claim-invalid", "sub", sub="https://other.example.co.uk/1"),
    ],
    "username": [
        USERNAME,
        changed(
            USERNAME,
            "a user name beyond ASCII",
            claims={"sub": "jörg"},
            extensions={},
            subject=("username", "jörg!example.com"),
        ),
        refused(USERNAME, "a mark that separates", "token-claim-invalid", "sub", sub="a!b"),
        refused(USERNAME, "an address", "token-claim-invalid", "sub", sub="a@example.com"),
    ],
}

CASES = {
    "google": GOOGLE_CASES,
    "kubernetes": KUBERNETES_CASES,
    "chainguard": CHAINGUARD_CASES,
    **OTHER_CASES,
}
