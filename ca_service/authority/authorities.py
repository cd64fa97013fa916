"""The issuing keys of one service, earlier, present and to come: which one issues, and whose a request is.

Each takes over from the one before at its certificate's notBefore, so that moment is fixed when the root
signs it, is known to every verifier, and needs no further step. Keys that issue no more go on signing CRLs
and OCSP answers for what they issued.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import overload

from ca_service.errors import ConfigurationError
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import subject_public_key
from ca_service.vocabulary import KeyId

CertIdHashes = tuple[str, bytes, bytes]
"""How a CertID names an authority: hash algorithm, hash of its name, hash of its key (RFC 6960 §4.1.1)."""


class Authorities(Sequence[Authority]):
    """Every authority of a service in the order in which they issue, the first one first. Never empty."""

    def __init__(self, authorities: Iterable[Authority]) -> None:
        """Put them in order of their notBefore.

        Raises ConfigurationError without any, for two of one key or one name (verifiers could not tell them
        apart), for two that begin in the same second, and for one under another root than the first.
        """
        self._all = tuple(sorted(authorities, key=lambda each: each.certificate.not_valid_before_utc))
        if not self._all:
            raise ConfigurationError("there is no issuing certificate")
        self._starts = [int(each.certificate.not_valid_before_utc.timestamp()) for each in self._all]
        for what, values in (
            ("key", [each.key_id for each in self._all]),
            ("name", [each.subject_der for each in self._all]),
            ("notBefore", self._starts),
        ):
            if len(set(values)) != len(self._all):
                raise ConfigurationError(f"two issuing certificates have the same {what}; each needs its own")
        if len({each.chain_der[-1] for each in self._all}) != 1:
            raise ConfigurationError("the issuing certificates are not all under one root")

    @overload
    def __getitem__(self, place: int) -> Authority: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Authority]: ...
    def __getitem__(self, place: int | slice) -> Authority | Sequence[Authority]:
        """The authority at a place in their order."""
        return self._all[place]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def __iter__(self) -> Iterator[Authority]:
        """Each in its order."""
        return iter(self._all)

    def issuing(self, now: int) -> Authority:
        """The one that issues at `now` (seconds since 1970): of those that have begun, the last."""
        return self._all[max(0, bisect_right(self._starts, now) - 1)]

    def following(self, now: int) -> Sequence[Authority]:
        """Those that are prepared and will issue later than `now` (seconds), the next one first."""
        return self._all[max(1, bisect_right(self._starts, now)) :]

    def as_trusted(self, now: int) -> Sequence[Authority]:
        """All of them: first the one that issues at `now` (seconds), then the others, newest first."""
        issuing = self.issuing(now)
        return (issuing, *(each for each in reversed(self._all) if each is not issuing))

    @cached_property
    def by_key(self) -> Mapping[KeyId, Authority]:
        """Each by the id of its key."""
        return {each.key_id: each for each in self._all}

    @cached_property
    def since(self) -> datetime:
        """When the first one began: no certificate of this service is older."""
        return self._all[0].certificate.not_valid_before_utc

    @cached_property
    def until(self) -> datetime:
        """When the last certificate of all ends: no leaf can expire later."""
        return max(each.not_after for each in self._all)

    def named(self, hashes: CertIdHashes) -> Authority | None:
        """The authority that a CertID in an OCSP request names, or None."""
        return self._by_hashes.get(hashes)

    @cached_property
    def _by_hashes(self) -> Mapping[CertIdHashes, Authority]:
        found = {}
        for authority in self._all:
            name, bits = authority.subject_der, subject_public_key(authority.spki)
            for algorithm in ("sha1", "sha256", "sha384", "sha512"):
                place = (
                    algorithm,
                    hashlib.new(algorithm, name).digest(),
                    hashlib.new(algorithm, bits).digest(),
                )
                found[place] = authority
        return found
