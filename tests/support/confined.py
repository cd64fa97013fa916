"""A program run as a container or a systemd unit would: another user, no capabilities, its own few folders.

A namespace of the user's own does it, without root and without a container engine.
"""

import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_ENTER = ("unshare", "--user", "--keep-caps", "--mount")
# What the program gets in the end: no capability, and none by setuid programs either.
_LEAVE = "exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all"


@cache
def namespaces_are_allowed() -> bool:
    """Whether the kernel and whoever started us let us make them."""
    return subprocess.run([*_ENTER, "true"], capture_output=True, check=False).returncode == 0


def confined(
    command: Sequence[str],
    *,
    user: int = 10001,
    writable: Mapping[str, Path] | None = None,
    readable: Mapping[str, Path] | None = None,
) -> list[str]:
    """The command line that runs `command` with our folders in place of those it names, the rest read-only.

    Keys are what the program sees, such as /srv/ca; its files seem to belong to `user`. Where namespaces are
    not allowed the names in the command are replaced, and nothing more is done.
    """
    places = [
        *((inside, folder, "rw") for inside, folder in (writable or {}).items()),
        *((inside, folder, "ro") for inside, folder in (readable or {}).items()),
    ]
    if not namespaces_are_allowed():
        replaced = list(command)
        for inside, folder, _ in sorted(places, key=lambda place: -len(place[0])):
            replaced = [word.replace(inside, str(folder)) for word in replaced]
        return replaced
    # Deepest last, so that a folder may lie in another.
    places.sort()
    # The folder above each is emptied for us, so that nothing of this machine shows through.
    above = sorted({str(Path(inside).parent) for inside, _, _ in places})
    lines = [f"mount -t tmpfs tmpfs {each}" for each in above if not _is_below(each, places)]
    for inside, folder, mode in places:
        lines += [
            f"mkdir -p {inside} 2>/dev/null || test -d {inside}",
            f"mount --bind {folder} {inside}",
            *([f"mount -o remount,bind,ro {inside}"] if mode == "ro" else []),
        ]
    lines += ["mount -o remount,bind,ro /", f'{_LEAVE} "$@"']
    script = " && ".join(lines)
    return [*_ENTER, f"--map-user={user}", f"--map-group={user}", "sh", "-c", script, "sh", *command]


def _is_below(folder: str, places: Sequence[tuple[str, Path, str]]) -> bool:
    return any(folder == inside or folder.startswith(f"{inside}/") for inside, _, _ in places)
