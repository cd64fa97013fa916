"""The error tree is what documents and clients are told: complete, with one slug for each class."""

import re
from collections.abc import Iterator

from ca_service.errors import CAError


def tree(kind: type[CAError] = CAError) -> Iterator[type[CAError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == "ca_service.errors":
            yield from tree(each)


def test_every_error_has_a_slug_of_its_own_a_cause_and_a_remedy() -> None:
    kinds = list(tree())
    assert len(kinds) > 25
    slugs = [kind.reason for kind in kinds]
    assert len(set(slugs)) == len(slugs)
    for kind in kinds:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", kind.reason)
        assert (kind.__doc__ or "").splitlines()[0].endswith(".")
        assert kind.remedy.endswith(".")
