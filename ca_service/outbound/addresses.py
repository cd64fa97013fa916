"""Which addresses may be connected to: public ones, and those the operator lists."""

import ipaddress
from collections.abc import Sequence

from ca_service.errors import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOW_32_BITS = 0xFFFFFFFF


class AddressRules:
    """Says of an address whether a connection to it is allowed."""

    def __init__(self, private_networks: Sequence[str]) -> None:
        """Take address ranges such as 127.0.0.0/8; raises ConfigurationError for one that is none."""
        try:
            self._private = tuple(ipaddress.ip_network(network) for network in private_networks)
        except ValueError as problem:
            raise ConfigurationError(
                f"[oidc] private_networks: {problem}; expected ranges such as 127.0.0.0/8",
                setting="oidc.private_networks",
            ) from None

    def is_listed(self, address: str) -> bool:
        """Say whether the operator listed the address as a private one where issuers may live."""
        real = _reached(address)
        return any(real.version == network.version and real in network for network in self._private)

    def is_allowed(self, address: str) -> bool:
        """Say whether an address is public (global, not multicast, not reserved) or listed."""
        real = _reached(address)
        public = real.is_global and not real.is_multicast and not real.is_reserved
        return public or self.is_listed(address)


def _reached(address: str) -> Address:
    """The address packets really go to: an IPv4 address may be wrapped in an IPv6 one."""
    real = ipaddress.ip_address(address)
    if isinstance(real, ipaddress.IPv6Address):
        # RFC 4291 §2.5.5.2, RFC 3056 and RFC 6052.
        wrapped = real.ipv4_mapped or real.sixtofour
        if wrapped is None and real in _NAT64:
            wrapped = ipaddress.IPv4Address(int(real) & _LOW_32_BITS)
        if wrapped is None and real.teredo is not None:
            wrapped = real.teredo[1]
        return wrapped or real
    return real
