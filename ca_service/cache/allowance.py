"""What a count means for who asked."""

import math

from ca_service.authority.ports import Allowance


def allowance(count: int, limit: int, left: float, window: int) -> Allowance:
    """Tell what is left after request number `count` of a window that lasts `left` more seconds."""
    return Allowance(count <= limit, limit, max(limit - count, 0), min(max(math.ceil(left), 1), window))
