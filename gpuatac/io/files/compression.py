"""Text files, however compressed, as blocks of whole lines.

BGZF (what bgzip and 10x write) is inflated block by block in threads; other gzip files, of one or many members,
in one stream. Checksums are verified, and a broken file is refused with the byte offset of the damage. The
decompressed text is never held whole.
"""

from __future__ import annotations

import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac import check
from gpuatac.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from io import FileIO
    from pathlib import Path

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
HEAD_ROOM = 1 << 16  # bytes before the inflated text, where the rest of the last line is put
_LARGEST = 1 << 16  # bytes of a BGZF block
_SLACK = 512  # bytes beyond the inflated text: igzip leaves its fastest loop where fewer are left (4 % of its time)
_READ = 1 << 20  # compressed bytes read at once
_HEADER = struct.Struct("<4s8x2s2xH")  # magic, tag of the first extra field, bytes of the block - 1
_SIZE = struct.Struct("<I")  # inflated bytes: the end of a block
_OTHER = {
    b"BAM\x01": "an uncompressed BAM file",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"BZh": "a bzip2 file",
    b"\xfd7zX": "an xz file",
    b"PK\x03\x04": "a zip archive",
}
_MARK = b"\xef\xbb\xbf"  # of UTF-8, which Excel and Notepad put in front
_RECOMPRESS = "decompress the file and compress it with bgzip or gzip"


def detect(path: Path) -> str:
    """ "bgzf", "gzip" or "plain", from the first bytes; an empty file or another format raises."""
    check.existing_file(path, "file")
    if path.is_dir():
        raise FileFormatError(path, "a folder", "a text file, plain or gzip", "give the file itself")
    with path.open("rb") as handle:
        head = handle.read(18)
    if not head:
        raise FileFormatError(path, "an empty file", "at least one line", "check how the file was made", line=1)
    for magic, what in _OTHER.items():
        if head.startswith(magic):
            raise FileFormatError(path, what, "text, plain or gzip (bgzip)", _RECOMPRESS, offset=0)
    if head[:2] != b"\x1f\x8b":
        return "plain"
    return "bgzf" if _is_bgzf(head) else "gzip"


def is_heading(line: bytes) -> bool:
    """Whether a line of a BED speaks to the genome browser: ``track`` or ``browser`` and what follows."""
    return line.startswith((b"track", b"browser")) and line.split(None, 1)[0] in (b"track", b"browser")


def _is_bgzf(head: bytes) -> bool:
    return len(head) >= 18 and head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


def _damaged(path: Path, found: str, allowed: str, offset: int) -> FileFormatError:
    return FileFormatError(path, found, allowed, "the file is damaged: fetch it again", offset=offset)


class _Group(NamedTuple):
    """BGZF blocks that are inflated together."""

    offset: int  # of the first, in the file
    blocks: list[memoryview]
    runs: list[memoryview]  # the same bytes, as far as blocks lie behind one another
    size: int  # inflated
    used: list[bytearray]  # buffers that no later group touches


def _bgzf_groups(path: Path, handle: FileIO, target: int, spare: list[bytearray]) -> Iterator[_Group]:
    """Groups of blocks that inflate to about ``target``.

    The blocks lie in buffers that the file is read into, taken from ``spare`` when there are any; ``used`` is to be put
    back there when the group has been inflated.
    """
    size = path.stat().st_size
    handle.seek(max(0, size - len(BGZF_EOF)))
    if handle.read() != BGZF_EOF:
        raise FileFormatError(
            path,
            "no BGZF end marker",
            "a complete BGZF file",
            "the file was cut off: fetch it again, or, if it is known to be whole, rewrite it with bgzip",
            offset=size,
        )
    handle.seek(0)
    buffer, view = bytearray(), memoryview(b"")
    base, pos, stop = 0, 0, 0  # file offset of the buffer's first byte; the bytes not yet used
    at_end = False
    blocks: list[memoryview] = []
    runs: list[memoryview] = []
    used: list[bytearray] = []
    first, total, run = 0, 0, 0  # run: where the blocks begin that are not yet in ``runs``
    while True:
        if stop - pos < _LARGEST and not at_end:  # maybe less than a block: go on in the next buffer
            rest = view[pos:stop]
            if run < pos:
                runs.append(view[run:pos])
            full, buffer = buffer, spare.pop() if spare else bytearray(_LARGEST + _READ)
            if full:
                used.append(full)
            view = memoryview(buffer)
            base, pos = base + pos - (_LARGEST - len(rest)), _LARGEST - len(rest)
            view[pos:_LARGEST] = rest
            run = pos
            n_read = handle.readinto(view[_LARGEST:])
            stop, at_end = _LARGEST + n_read, n_read == 0
            continue
        if pos == stop:
            break
        known = stop - pos >= _HEADER.size
        magic, tag, length = _HEADER.unpack_from(buffer, pos) if known else (b"", b"", 0)
        if magic != b"\x1f\x8b\x08\x04" or tag != b"BC":
            raise FileFormatError(
                path,
                "bytes that are no BGZF block",
                "BGZF blocks to the end of the file",
                "the file is damaged or mixes compressions: fetch it again or rewrite it with zcat and bgzip",
                offset=base + pos,
            )
        length += 1
        if length > stop - pos or length < 26:
            raise FileFormatError(
                path,
                f"a BGZF block of {length} bytes with {min(length, stop - pos)} left",
                "complete blocks",
                "the file was cut off or damaged: fetch it again",
                offset=base + pos,
            )
        (inflated,) = _SIZE.unpack_from(buffer, pos + length - 4)
        if inflated > 1 << 16:
            raise _damaged(path, f"a BGZF block of {inflated} inflated bytes", "at most 65,536", base + pos)
        if not blocks:
            first = base + pos
        blocks.append(view[pos : pos + length])
        total += inflated
        pos += length
        if total >= target:
            yield _Group(first, blocks, [*runs, view[run:pos]], total, used)
            blocks, runs, used, total, run = [], [], [], 0, pos
    if blocks:
        yield _Group(first, blocks, [*runs, view[run:pos]], total, used)


def _inflate_group(path: Path, group: _Group) -> np.ndarray:
    """The text of a group, behind HEAD_ROOM bytes."""
    out = np.empty(HEAD_ROOM + group.size, np.uint8)
    if not _inflate_into(group.runs, out[HEAD_ROOM:].data):
        _inflate_blocks(path, group, out.data)
    return out


def _inflate_into(runs: list[memoryview], out: memoryview) -> bool:
    """Inflate runs of gzip members straight into ``out``, other threads running meanwhile; whether they fill it just so.

    isal's reader of a buffer checks sizes and sums of the members; where it refuses, or this version of isal has none,
    the blocks are looked at one by one.
    """
    from isal import isal_zlib

    reader = getattr(isal_zlib, "_GzipReader", None)
    if reader is None:
        return False
    at = 0
    try:
        for run in runs:
            source = reader(run, _READ)
            while at < len(out) and (n := source.readinto(out[at:])):
                at += n
            if source.read(1):  # looks at the end of the last member, too
                return False
    except (EOFError, OSError, isal_zlib.error):  # type: ignore[misc]  # isal's stubs take the class for an instance
        return False
    return at == len(out)


def _inflate_blocks(path: Path, group: _Group, view: memoryview) -> None:
    """Inflate one block after another, so that the first damaged one is named."""
    from isal import igzip_lib

    at, offset = HEAD_ROOM, group.offset
    for block in group.blocks:
        (size,) = _SIZE.unpack_from(block, len(block) - 4)
        try:
            text = igzip_lib.decompress(block, igzip_lib.DECOMP_GZIP, 15, size + _SLACK)
        except igzip_lib.error as err:  # type: ignore[misc]  # isal's stubs take the class for an instance
            raise _damaged(path, f"a BGZF block that does not inflate ({err})", "intact blocks", offset) from err
        if len(text) != size:
            raise _damaged(path, f"a BGZF block of {len(text)} bytes that says {size}", "intact blocks", offset)
        view[at : at + size] = text
        at += size
        offset += len(block)


def bgzf_chunks(
    path: Path, target: int, pool: ThreadPoolExecutor, window: int, advance: Callable[[int], None]
) -> Iterator[np.ndarray]:
    """Inflated runs of BGZF blocks, in order; the data of each begin at HEAD_ROOM."""
    pending: deque[tuple[_Group, Future[np.ndarray]]] = deque()
    spare: list[bytearray] = []
    with path.open("rb", buffering=0) as handle:
        groups = _bgzf_groups(path, handle, target, spare)
        while True:
            group = next(groups, None)
            if group is not None:
                pending.append((group, pool.submit(_inflate_group, path, group)))
            elif not pending:
                return
            if group is None or len(pending) > window:
                done, future = pending.popleft()
                chunk = future.result()
                spare.extend(done.used)  # groups end in order here: none before this one reads them any more
                yield chunk
                advance(sum(map(len, done.blocks)))


def _gather(pieces: list[bytes]) -> np.ndarray:
    out = np.empty(HEAD_ROOM + sum(map(len, pieces)), np.uint8)
    at = HEAD_ROOM
    for piece in pieces:
        out[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return out


def _gzip_pieces(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Inflated pieces of a gzip file of any number of members; zero padding after a member is allowed."""
    from isal import isal_zlib

    step = 1 << 20
    read = 0
    with path.open("rb") as handle:
        inflater, member, data = isal_zlib.decompressobj(wbits=31), 0, b""
        started = False
        while True:
            if not data:
                data = handle.read(step)
                if not data:
                    break
                read += len(data)
                advance(len(data))
            if not started:
                data = data.lstrip(b"\0") if member else data
                if not data:
                    continue
                member_at = read - len(data)
                if len(data) < 2:
                    data += handle.read(step)
                    read = member_at + len(data)
                if data[:2] != b"\x1f\x8b":
                    raise FileFormatError(
                        path,
                        "bytes after the end of the gzip data",
                        "gzip members one after another",
                        "the file is damaged: fetch it again or cut the rest off",
                        offset=member_at,
                    )
                started = True
            try:
                piece = inflater.decompress(data)
            except isal_zlib.error as err:  # type: ignore[misc]  # isal's stubs take the class for an instance
                found = f"gzip data that do not inflate ({err})"
                raise _damaged(path, found, "an intact gzip file", read - len(data)) from err
            if piece:
                yield piece
            if inflater.eof:
                data, started, member = inflater.unused_data, False, member + 1
                inflater = isal_zlib.decompressobj(wbits=31)
            else:
                data = b""
        if started:
            raise FileFormatError(
                path,
                "the end of the file within a gzip member",
                "a complete gzip file",
                "the file was cut off: fetch it again",
                offset=read,
            )


def _plain_pieces(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            advance(len(piece))
            yield piece


def _piece_chunks(pieces: Iterator[bytes], target: int) -> Iterator[np.ndarray]:
    held: list[bytes] = []
    total = 0
    for piece in pieces:
        held.append(piece)
        total += len(piece)
        if total >= target:
            yield _gather(held)
            held, total = [], 0
    if held:
        yield _gather(held)


def line_blocks(
    path: Path,
    pool: ThreadPoolExecutor,
    *,
    block_bytes: int = 16 << 20,
    window: int = 2,
    advance: Callable[[int], None] = lambda _n: None,
) -> Iterator[np.ndarray]:
    """The decompressed text as uint8 arrays of whole lines; only the last may lack its newline.

    ``advance`` is called with the compressed bytes done; ``window`` groups of blocks are inflated ahead. A byte order mark
    of UTF-8 is taken off; text in UTF-16 is refused.
    """
    blocks = _line_blocks(path, pool, block_bytes, window, advance)
    for first in blocks:
        text = _without_mark(path, first)
        if text.size:
            yield text
        break
    yield from blocks


def read_bytes(path: Path, *, may_be_empty: bool = False) -> bytes:
    """The whole decompressed text of a plain, gzip or BGZF file, without byte order mark.

    Raises :class:`FileFormatError` with the byte offset where the compression is broken, and, unless it may be so, for a
    file without a byte.
    """
    if may_be_empty and path.is_file() and not path.stat().st_size:
        return b""
    with ThreadPoolExecutor(2) as pool:
        return b"".join(block.tobytes() for block in line_blocks(path, pool))


def _without_mark(path: Path, text: np.ndarray) -> np.ndarray:
    head = text[:3].tobytes()
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        remedy = "save it as UTF-8, or convert it (iconv -f UTF-16 -t UTF-8)"
        raise FileFormatError(path, "text in UTF-16", "text in UTF-8", remedy, line=1)
    return text[3:] if head == _MARK else text


def _line_blocks(
    path: Path, pool: ThreadPoolExecutor, block_bytes: int, window: int, advance: Callable[[int], None]
) -> Iterator[np.ndarray]:
    kind = detect(path)
    if kind == "bgzf":
        chunks = bgzf_chunks(path, block_bytes, pool, window, advance)
    else:
        pieces = _gzip_pieces(path, advance) if kind == "gzip" else _plain_pieces(path, advance)
        chunks = _piece_chunks(pieces, block_bytes)
    carry = np.empty(0, np.uint8)
    for chunk in chunks:
        cut = _after_last_newline(chunk)
        if cut == HEAD_ROOM:  # no newline at all
            carry = np.concatenate([carry, chunk[HEAD_ROOM:]])
            continue
        n = carry.size
        if n <= HEAD_ROOM:
            chunk[HEAD_ROOM - n : HEAD_ROOM] = carry
            yield chunk[HEAD_ROOM - n : cut]
        else:
            yield np.concatenate([carry, chunk[HEAD_ROOM:cut]])
        carry = chunk[cut:].copy()
    if carry.size:
        yield carry


def _after_last_newline(chunk: np.ndarray) -> int:
    """Index after the last newline, or HEAD_ROOM when there is none."""
    stop = chunk.size
    while stop > HEAD_ROOM:
        low = max(HEAD_ROOM, stop - 4096)
        hits = np.flatnonzero(chunk[low:stop] == 10)
        if hits.size:
            return low + int(hits[-1]) + 1
        stop = low
    return HEAD_ROOM
