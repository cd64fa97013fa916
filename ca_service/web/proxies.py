"""What reverse proxies say of a request, believed from those that are trusted alone."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:  # these types exist for checkers alone
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CLAIMS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED")


def behind(proxies: Sequence[str], application: "WSGIApplication") -> "WSGIApplication":
    """Let one proxy out of these address ranges say who asked, and by which scheme.

    What stood in these headers before that proxy is a client's own claim; from anybody else all of it is.
    """
    networks = [ipaddress.ip_network(each) for each in proxies]
    believed: WSGIApplication = ProxyFix(application, x_for=1, x_proto=1)
    known: dict[str, bool] = {}

    def trusted(peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:  # a Unix socket has no peer: only local processes reach it
            return not peer
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in networks)

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        if (believe := known.get(peer)) is None:
            believe = trusted(peer)
            if len(known) < 4096:  # clients may come from anywhere; proxies are few
                known[peer] = believe
        if believe:
            return believed(environ, start_response)
        for claim in _CLAIMS:
            environ.pop(claim, None)
        return application(environ, start_response)

    return serve
