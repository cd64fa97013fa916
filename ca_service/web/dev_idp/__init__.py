"""The development identity provider: an OpenID Provider that believes whatever e-mail address is typed.

Here: its keys, codes, pages and endpoints under /dev-idp. Not here: anything `serve` may use; only `dev`
makes a DevIdentityProvider, in memory, and hands it over in-process. Its keys end with the process.
"""

from ca_service.web.dev_idp.endpoints import blueprint
from ca_service.web.dev_idp.provider import ADMIN_CLIENT_ID, CLIENT_ID, PATH, DevIdentityProvider

__all__ = ["ADMIN_CLIENT_ID", "CLIENT_ID", "PATH", "DevIdentityProvider", "blueprint"]
