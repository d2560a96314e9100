"""Fetching an official archive: resumed, verified, safely unpacked, and atomic.

The download manager of `datasets` starts anew after a cut, which hurts with 208 MB.
"""

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import requests
import soundfile
from datasets.utils import tqdm
from filelock import FileLock

from .recordings import contents_digest

ATTEMPTS = 5
CHUNK = 1 << 16  # At most this much is received again after a cut.
TIMEOUT = (10, 60)


@dataclass(frozen=True)
class Archive:
    """A zip archive on the web.

    Args:
        url: Where it is.
        md5: Its published checksum, if any.
        size: Its published length in bytes, if any.
        contents: [`contents_digest`] of the published recordings, which vouches for an archive that
            has no published checksum.
    """

    url: str
    md5: str | None = None
    size: int | None = None
    contents: str | None = None


class DownloadError(OSError):
    """An archive that could not be had; the message says how to do it by hand."""


def download_and_extract(archive: Archive, corpus: str, cache_dir: str) -> Path:
    """Folder of the unpacked archive, from the cache when it is there.

    A transfer that is cut off goes on where it stopped, in this call or in a later one.

    Raises:
        DownloadError: The archive cannot be fetched or is not what was published. The message says
            what to fetch by hand and where to put it.
    """
    key = hashlib.sha256(f"{archive.url}{archive.md5}".encode()).hexdigest()[:16]
    folder = Path(cache_dir).expanduser() / f"{corpus}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            try:
                _fetch(archive, folder)
            except (requests.RequestException, zipfile.BadZipFile, OSError) as error:
                raise DownloadError(_by_hand(archive, corpus, error)) from error
    return folder


def _by_hand(archive: Archive, corpus: str, error: Exception) -> str:
    return (
        f"Could not download {corpus}: {error}. Fetch {archive.url} by hand (a browser will do), "
        f"unpack it into any folder and pass that folder: "
        f'load_dataset("{corpus}", data_dir="<folder>")'
    )


def _fetch(archive: Archive, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.zip.incomplete")
    _download(archive, partial)
    try:
        _verify(archive, partial)
        _extract(archive, partial, folder)
    finally:
        # A complete archive that is refused must not be resumed.
        partial.unlink()


def _download(archive: Archive, partial: Path) -> None:
    """Append to `partial` until it is complete; what was received stays after an error."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _append(archive.url, partial)
        except requests.HTTPError:
            raise
        except requests.RequestException:
            if attempt == ATTEMPTS:
                raise


def _append(url: str, partial: Path) -> None:
    """One transfer, of the bytes that `partial` does not have yet."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # Nothing is left to send: `partial` was complete.
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            start = 0
        left = int(response.headers.get("Content-Length", 0))
        with partial.open("ab" if start else "wb") as file, _progress(url, start, left) as progress:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))


def _progress(url: str, start: int, left: int) -> tqdm:
    total = start + left if left else None
    return tqdm(desc=url, initial=start, total=total, unit="B", unit_scale=True)


def _verify(archive: Archive, path: Path) -> None:
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        raise OSError(f"it has {size} bytes, expected {archive.size}")
    if archive.md5 is not None and (md5 := _md5(path)) != archive.md5:
        raise OSError(f"its md5 is {md5}, expected {archive.md5}")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _extract(archive: Archive, path: Path, folder: Path) -> None:
    """Unpack into `folder`, which appears only when all is right; zipfile checks each CRC."""
    unpacked = folder.with_name(f"{folder.name}.incomplete")
    shutil.rmtree(unpacked, ignore_errors=True)
    with zipfile.ZipFile(path) as zipped:
        for name in zipped.namelist():
            _check_member(name, unpacked)
        zipped.extractall(unpacked)
    _check_contents(archive, unpacked)
    os.replace(unpacked, folder)


def _check_contents(archive: Archive, folder: Path) -> None:
    """Refuse recordings that are not the published ones, and remove them."""
    if archive.contents is None:
        return
    try:
        digest = contents_digest(folder)
    except soundfile.SoundFileError as error:
        digest = str(error)
    if digest != archive.contents:
        shutil.rmtree(folder)
        raise OSError(
            f"its recordings are not the published ones: their digest is {digest}, "
            f"expected {archive.contents}"
        )


def _check_member(name: str, folder: Path) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise OSError(f"its member '{name}' would be unpacked outside of the folder")
