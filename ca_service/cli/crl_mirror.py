"""A folder with every CRL of a service, for verifiers without a network: one command keeps it, one reads it.

It is laid out as the addresses of the service, DIR/crl/KEY/SHARD.crl with DIR/crl/index.json, so any tool
that copies a site makes one too. Nothing in it is believed: who reads a list checks its signature.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from ca_service.cli import fetching
from ca_service.cli.crl_answers import crl_number
from ca_service.errors import StatusUnanswered
from ca_service.files.durable import write_file

INDEX = "crl/index.json"
_PATH = re.compile(r"/(crl/[0-9a-f]{40}/[0-9a-z][0-9a-z-]{0,63}\.crl)", re.ASCII)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Listed:
    """A CRL in an index: SHA-256 in lower-case hex over its DER."""

    url: str
    number: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What a visit to the service did: how many lists there are, and how many of them were fetched."""

    listed: int
    fetched: int


class Mirror:
    """The folder, for reading."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; reads nothing."""
        self._folder = folder

    def read(self, url: str) -> bytes:
        """The CRL of an address, as it was copied; raises ValueError when it is missing or half copied."""
        path = self._folder / place_of(url)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise ValueError(f"{path} does not exist: the mirror was made before it, or elsewhere") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        listed = self._index().get(url)
        if listed is not None and listed.sha256 != hashlib.sha256(content).hexdigest():
            number = crl_number(content)
            if number <= listed.number:
                raise ValueError(
                    f"the mirror's index has number {listed.number} of it and {path} holds number {number}:"
                    " it was copied by halves"
                )
        return content

    def _index(self) -> Mapping[str, Listed]:
        """What the mirror says it holds; a mirror may be without."""
        try:
            return {each.url: each for each in read_index((self._folder / INDEX).read_bytes())}
        except FileNotFoundError:
            return {}


def place_of(url: str) -> str:
    """Where a list is in a mirror; raises ValueError for an address that no list of this program has."""
    found = _PATH.fullmatch(urlsplit(url).path)
    if found is None:
        raise ValueError(f"{url} is not the address of a list of this service")
    return found[1]


def read_index(content: bytes) -> Iterator[Listed]:
    """Read an index; raises ValueError."""
    try:
        for entry in json.loads(content)["crls"]:
            listed = Listed(str(entry["url"]), int(entry["number"]), str(entry["sha256"]))
            place_of(listed.url)
            yield listed
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("this is no index of CRLs") from error


def copy(status_url: str, folder: Path) -> Copied:
    """Bring a mirror up to date: fetch the index and every list whose octets are not here yet.

    A list is replaced by one with a higher number only, in one step, and the index is written last. Raises
    StatusUnanswered when the service gives no index or a list that is not what its index says, OSError.
    """
    for attempt in range(_TRIES):
        try:
            index = fetching.fetch(f"{status_url}/{INDEX}")
            listed = list(read_index(index))
            fetched = sum(_copied(each, status_url, folder) for each in listed)
        except _Moved:
            if attempt < _TRIES - 1:
                continue  # a list was signed anew since the index was: the next index has it
            raise StatusUnanswered("lists change faster than they can be copied; try again") from None
        except requests.RequestException as error:
            raise StatusUnanswered(f"{status_url} does not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise StatusUnanswered(f"{status_url}: {error}") from error
        write_file(folder / INDEX, index)
        return Copied(len(listed), fetched)
    raise AssertionError("unreachable")


class _Moved(Exception):
    """A list is newer than the index that names it."""


def _copied(listed: Listed, status_url: str, folder: Path) -> bool:
    path = folder / place_of(listed.url)
    try:
        here = path.read_bytes()
    except FileNotFoundError:
        here = b""
    if hashlib.sha256(here).hexdigest() == listed.sha256:
        return False
    # From where the index came: the addresses in it are those that certificates name.
    content = fetching.fetch(f"{status_url}/{place_of(listed.url)}")
    number = crl_number(content)
    if hashlib.sha256(content).hexdigest() != listed.sha256:
        if number > listed.number:
            raise _Moved
        raise ValueError(f"the list of {listed.url} is not the one that the index names")
    if (before := _number_of(here)) > number:
        raise ValueError(
            f"the list of {listed.url} has number {number}, and number {before} is here already: the service"
            " went back in time"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content)
    return True


def _number_of(here: bytes) -> int:
    """The number of a copy; 0 for none, and for one that is damaged, which is replaced."""
    try:
        return crl_number(here) if here else 0
    except ValueError:
        return 0
