"""/admin/v1: administration over the network, for holders of a token and a role.

Here: reading orders, asking the gate, answering in the shapes of authority/facts. Not here: who may do what,
and what an order does; both are the authority's.
"""

from ca_service.web.admin.endpoints import LoginOptions, blueprint
from ca_service.web.admin.guarded import PREFIX, GuardedCalls

__all__ = ["PREFIX", "GuardedCalls", "LoginOptions", "blueprint"]
