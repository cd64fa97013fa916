"""Entries written by hand are what the reference builder writes, byte for byte."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from ca_service.pki.crl import Entry, build_crl
from ca_service.vocabulary import RevocationReason, Serial
from tests.support.pki import NOW, authority

_ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(1, 2**159 - 1).map(Serial),
        st.integers(0, 4_000_000_000),
        st.sampled_from([reason.number for reason in RevocationReason]),
    ),
    max_size=12,
    unique_by=lambda entry: entry.serial,
)


@settings(max_examples=150)
@given(_ENTRIES, st.integers(0, 2**152 - 1))
def test_a_crl_is_the_one_that_the_reference_builder_makes(entries: list[Entry], number: int) -> None:
    ours = x509.load_der_x509_crl(
        build_crl(
            authority(),
            entries,
            number=number,
            this_update=NOW,
            next_update=NOW + timedelta(days=7),
            url=None,
            expired_since=None,
        )
    )
    theirs = x509.CertificateRevocationListBuilder(
        issuer_name=authority().certificate.subject,
        last_update=NOW,
        next_update=NOW + timedelta(days=7),
        revoked_certificates=[_revoked(entry) for entry in entries],
    )
    ski = authority().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    signed = (
        theirs.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
        .add_extension(x509.CRLNumber(number), critical=False)
        .sign(authority().private_key, hashes.SHA256())
    )
    assert ours.tbs_certlist_bytes == signed.tbs_certlist_bytes


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    moment = datetime.fromtimestamp(entry.revocation_date, UTC)
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(moment)
    if entry.reason:
        flag = next(
            flag
            for flag in x509.ReasonFlags
            if flag.value == RevocationReason.from_number(entry.reason).label
        )
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.add_extension(x509.InvalidityDate(moment), critical=False).build()
