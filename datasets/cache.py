"""Images of class folders, decoded once.

    <data>/{train,test}/<class>/<image>  ──▶  <cache>/<content>.images    uint8, train then test
                                              <cache>/<content>.json      its shape and its SHA-256
                                              <cache>/<signature>.index   names the content

A cache file is named by the SHA-256 of what it was made from: relative paths and bytes of all
files. Since reading all of them takes seconds, an index remembers which content lay behind a
*signature*: path, size, and times of last modification and of last status change of every file. The
second loading lists the folders, finds the signature and maps the file into memory; moved or copied
folders are read, not decoded; a changed file changes the signature. The digest of the images,
needed for the record anyway, doubles as the check of the cache: a damaged one is decoded again.

One set takes IN_MEMORY bytes at most, larger image folders are streamed; all together take KEPT.

Several processes may decode at once: each writes under a name of its own and renames at the end.
Two threads on two cores decode CIFAR-100 in 7 s; processes took half of that, but would have to be
forked or started beside PyTorch.
"""

import hashlib
import json
import os
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from datasets.base import Images, Progress, Split, fingerprint, forbidden
from datasets.folders import FORMAT, Listing, class_names, decode, scan

Result = TypeVar("Result")

IN_MEMORY = 4 * 2**30  # bytes of decoded images of one set; ours: what exceeds it is streamed
KEPT = 16 * 2**30  # bytes of decoded images of all sets; ours: those used longest ago are dropped
_CHUNK = 256  # images a task: large enough to hide the cost of a task, small enough for progress


def cache_folder() -> Path:
    """$BENCHMARK_CACHE, else classifier-heads-benchmark below $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("BENCHMARK_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "classifier-heads-benchmark"


def read_folders(
    folder: Path,
    *,
    shape: tuple[int, int, int] | None = None,
    progress: Progress | None = None,
) -> tuple[Images, tuple[str, ...]]:
    """All images below folder/{train,test}/<class>/, as RGB, and the class names in label order.

    shape: the (channels, height, width) that every image must have; None, that of the first.
    """
    return read(lambda: scan(folder), shape=shape, progress=progress)


def read_named(
    folder: Path,
    classes: Sequence[str],
    title: str,
    *,
    shape: tuple[int, int, int],
    progress: Progress | None = None,
) -> Images:
    """The same, where the class folders must be those of a data set that people call `title`."""
    if (found := class_names(folder)) != tuple(classes):
        odd = sorted(set(found) ^ set(classes))[0]
        raise ValueError(
            f"the class folders in {folder / 'train'} are not those of {title}: {odd!r} is "
            f"{'unknown' if odd in found else 'missing'}. Label order follows from the "
            f"names: use the original ones."
        )
    return read_folders(folder, shape=shape, progress=progress)[0]


def read(
    look: Callable[[], Listing],
    *,
    shape: tuple[int, int, int] | None = None,
    progress: Progress | None = None,
) -> tuple[Images, tuple[str, ...]]:
    """All images that look() lists, as RGB, and the class names in label order."""
    files = look()
    folder = files.folder
    cache = cache_folder()
    content = _indexed(cache, files.signature)
    images = _cached(cache, content, files) if content else None
    if images is None:
        _make(cache)
        content = _content(files)
        images = _cached(cache, content, files)
        if images is None:
            _decode_all(cache, content, files, shape, progress)
            images = _cached(cache, content, files)
            if images is None:
                raise OSError(
                    f"the cache in {cache} was damaged while it was written. Look for a failing "
                    f"disk, or let BENCHMARK_CACHE name another folder."
                )
        if look().signature != files.signature:
            raise ValueError(
                f"the images in {folder} changed while they were read. Wait until they are "
                f"complete, and start again."
            )
        _write(cache, f"{files.signature}.index", [json.dumps({"content": content}).encode()])
        _drop_oldest(cache, content)
    if shape is not None and tuple(images.train.images.shape[1:]) != shape:
        raise _wrong_size(folder / files.paths[0], images.train.images.shape[2:], shape[1:])
    return images, files.classes


def _content(files: Listing) -> str:
    """SHA-256 of relative paths and bytes of all files."""

    def digests(paths: list[str]) -> bytes:
        lines = []
        for path in paths:
            try:
                with open(files.folder / path, "rb") as file:
                    own = hashlib.file_digest(file, "sha256").digest()
            except PermissionError:
                raise forbidden(files.folder / path) from None
            lines.append(path.encode(errors="surrogateescape") + b"\0" + own)
        return b"\n".join(lines)

    total = hashlib.sha256(f"{FORMAT}".encode())
    for lines in _in_order(digests, _chunks(files.paths)):
        total.update(lines)
    return total.hexdigest()


def _decode_all(
    cache: Path,
    content: str,
    files: Listing,
    shape: tuple[int, int, int] | None,
    progress: Progress | None,
) -> None:
    """Decode every file into the cache, in order."""
    first = decode(str(files.folder / files.paths[0]))
    size = first.shape[:2] if shape is None else shape[1:]

    def decoded(paths: list[str]) -> np.ndarray:
        images = np.empty((len(paths), 3, *size), np.uint8)
        for image, path in zip(images, paths, strict=True):
            pixels = decode(str(files.folder / path))
            if pixels.shape[:2] != size:
                raise _wrong_size(files.folder / path, pixels.shape[:2], size)
            image[:] = pixels.transpose(2, 0, 1)
        return images

    train, test = (len(labels) for labels in files.labels)
    shapes = ((train, 3, *size), (test, 3, *size))
    digest = hashlib.sha256(f"{shapes[0]} {shapes[1]}".encode())

    def parts() -> Iterator[np.ndarray]:
        done = 0
        for images in _in_order(decoded, _chunks(files.paths)):
            digest.update(images)
            yield images
            done += len(images)
            if progress is not None:
                progress(done, len(files.paths))

    _write(cache, f"{content}.images", parts())
    for labels in files.labels:
        digest.update(labels)
    about = {"height": int(size[0]), "width": int(size[1]), "digest": digest.hexdigest()}
    _write(cache, f"{content}.json", [json.dumps(about).encode()])


def _indexed(cache: Path, signature: str) -> str | None:
    """The content that last lay behind a signature, if known."""
    try:
        content = json.loads((cache / f"{signature}.index").read_bytes())["content"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return content if isinstance(content, str) else None


def _cached(cache: Path, content: str, files: Listing) -> Images | None:
    """Decoded images mapped into memory; None if they are not there or not what was written."""
    train, test = files.labels
    try:
        about = json.loads((cache / f"{content}.json").read_bytes())
        path = cache / f"{content}.images"
        shape = (len(files.paths), 3, about["height"], about["width"])
        if path.stat().st_size != np.prod(shape):
            return None
        # copy on write: tensors want writable memory, and the file stays as it is
        pixels = torch.from_numpy(np.memmap(path, np.uint8, "c", shape=shape))
        images = Images(
            Split(pixels[: len(train)], torch.from_numpy(train)),
            Split(pixels[len(train) :], torch.from_numpy(test)),
            about["digest"],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if fingerprint(images.train, images.test) != images.digest:
        return None
    with suppress(OSError):  # a cache that may not be written is never too large
        os.utime(path)  # of the last use
    return images


def _drop_oldest(cache: Path, content: str) -> None:
    """Remove decoded images, least recently used first, until the rest fits; never `content`.

    A process that has them mapped into memory keeps them; any other will decode them again.
    """
    with suppress(OSError):
        found = [(path.stat(), path) for path in cache.glob("*.images")]
        found.sort(key=lambda item: (item[1].stem == content, item[0].st_mtime_ns), reverse=True)
        total = 0
        for about, path in found:
            total += about.st_size
            if total > KEPT and path.stem != content:
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)


def _make(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(cache, error) from None


def _write(cache: Path, name: str, parts: Iterable[bytes | np.ndarray]) -> None:
    """Write a file as a whole or not at all."""
    draft = cache / f".{name}.{os.getpid()}.{uuid.uuid4().hex}"
    parts = iter(parts)
    try:
        try:
            file = open(draft, "xb")  # noqa: SIM115
        except OSError as error:
            raise _unwritable(cache, error) from None
        with file:
            for part in parts:  # errors of decoding pass through, errors of writing are explained
                try:
                    file.write(part)
                except OSError as error:
                    raise _unwritable(cache, error) from None
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise _unwritable(cache, error) from None
        try:
            os.replace(draft, cache / name)
            _sync_folder(cache)
        except OSError as error:
            raise _unwritable(cache, error) from None
    finally:
        if close := getattr(parts, "close", None):
            close()
        with suppress(OSError):
            draft.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _chunks(paths: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), _CHUNK):
        yield list(paths[start : start + _CHUNK])


def _in_order(
    task: Callable[[list[str]], Result], chunks: Iterable[list[str]]
) -> Generator[Result, None, None]:
    """task(chunk) for each chunk, on all cores, in order, never far ahead of the consumer."""
    workers = _cores()
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for chunk in chunks:
            waiting.append(pool.submit(task, chunk))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unwritable(cache: Path, error: OSError) -> OSError:
    return OSError(
        f"the cache of decoded images in {cache} cannot be written ({error.strerror}). "
        f"Set BENCHMARK_CACHE to a folder with room where you may write."
    )


def _wrong_size(path: Path, size: Sequence[int], wanted: Sequence[int]) -> ValueError:
    return ValueError(
        f"{path} is {size[0]} x {size[1]} pixels (height x width), expected {wanted[0]} x "
        f"{wanted[1]} as all other images. Bring all images to one size first."
    )
