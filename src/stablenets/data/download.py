"""Find the files of the known data sets on this machine or get them from their official sources."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..core.errors import InputError, message

ATTEMPTS, PAUSE, TIMEOUT = 3, 0.5, 10.0  # seconds; the pause grows with each attempt
SHARED = Path("../shared/data")  # a folder beside a checkout, with the same layout as $STABLENETS_DATA

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFile:
    """A file `folder/name` of a data set, what it must hash to, and where it is published (if it still is)."""

    folder: str
    name: str
    sha256: str
    url: str | None = None


def find(file: DataFile, cache: Path | None = None) -> Path:
    """The path of `file` with the right sha256, looked for in this order and else downloaded into the cache:

    `$STABLENETS_DATA/folder/name`, `../shared/data/folder/name`, `cache/folder/name`.

    Args:
        file: what to find.
        cache: where downloads are kept; by default the user's cache folder of this operating system.

    Raises:
        InputError: the file that was found has another sha256; or there is none and it cannot be downloaded.
    """
    cache = cache or default_cache()
    for folder in (*local_folders(), cache):
        path = folder / file.folder / file.name
        if os.path.isfile(path):
            return _checked(path, file)
    if file.url is None:
        given = f"{file.folder}/{file.name} is not on this machine and has no official download"
        raise InputError(message(given, f"a file with sha256 {file.sha256}", _by_hand(file, cache)))
    return download(file, file.url, cache)


def local_folders() -> Iterator[Path]:
    """Where data sets may lie on this machine, besides the cache: one folder per data set in each."""
    if chosen := os.environ.get("STABLENETS_DATA"):
        yield Path(chosen).expanduser()
    yield SHARED


def default_cache() -> Path:
    """The user's cache folder for this package."""
    import pooch  # here, because only downloads need it

    return Path(pooch.os_cache("stablenets"))


def download(file: DataFile, url: str, cache: Path) -> Path:
    """Get `file` from `url` into `cache`; a partial download (`name.part`) is continued, also after a crash.

    Processes that want the same file wait for each other. The file appears under its name only when complete and
    of the right sha256.

    Raises:
        InputError: no network, no such file there, other content than expected, or `cache` cannot be written.
    """
    from filelock import FileLock

    target = cache / file.folder / file.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_file():
                _complete(file, url, target, _by_hand(file, cache))
    except OSError as error:
        todo = "Choose another cache folder or free some space."
        raise InputError(message(f"{target} cannot be written ({error})", "a writable folder", todo)) from None
    return target


def sha256(path: Path) -> str:
    """The sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _complete(file: DataFile, url: str, target: Path, todo: str) -> None:
    part = target.with_name(target.name + ".part")
    reason = ""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        log.info("downloading %s to %s", url, target)
        try:
            _append(url, part)
        except (OSError, HTTPException) as error:
            reason = str(error).strip("<>") or type(error).__name__
            continue
        if (found := sha256(part)) == file.sha256:
            os.replace(part, target)
            return
        part.unlink()  # it may have been continued from other content: start again
        reason = f"what arrived has sha256 {found}"
    needed = f"{file.name} with sha256 {file.sha256}"
    raise InputError(message(f"{url} could not be downloaded ({reason})", needed, todo))


def _append(url: str, part: Path) -> None:
    """Get what is still missing of `part`."""
    have = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # nothing after `have` bytes: complete, as its sha256 will tell
            return
        raise
    # 206 sends the missing part; 200 sends everything, as a server without ranges does
    with response, part.open("ab" if response.status == 206 else "wb") as stream:
        shutil.copyfileobj(response, stream)
        got = stream.tell() - (have if response.status == 206 else 0)
    announced = int(response.headers.get("Content-Length") or got)
    if got < announced:  # a closed connection looks like the end of the file
        raise ConnectionError(f"connection closed after {got} of {announced} bytes")


def _checked(path: Path, file: DataFile) -> Path:
    try:
        found = sha256(path)
    except OSError as error:
        raise InputError(message(f"{path} cannot be read ({error})", "a readable file")) from None
    if found == file.sha256:
        return path
    todo = f"Replace it by the official file{f' from {file.url}' if file.url else ''}, or delete it."
    raise InputError(message(f"{path} has sha256 {found}", f"sha256 {file.sha256}", todo))


def _by_hand(file: DataFile, cache: Path) -> str:
    return (
        f"Put it in {cache / file.folder}, or in {file.folder}/ of a folder "
        f"that the environment variable STABLENETS_DATA names."
    )
