"""Write BGZF: gzip members of at most 64 KiB with their size in the header, as samtools writes them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from isal import isal_zlib

if TYPE_CHECKING:
    from types import TracebackType

BLOCK = 0xFF00  # uncompressed bytes of a block; incompressible data still fit 64 KiB
EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzf_block(data: bytes, level: int) -> bytes:
    """One block of at most ``BLOCK`` bytes; levels 0 to 3 are igzip's, from 4 zlib's."""
    packer = isal_zlib.compressobj(level, wbits=-15) if level < 4 else zlib.compressobj(level, wbits=-15)
    body = packer.compress(data) + packer.flush()
    if len(body) > len(data):  # incompressible: one stored block, which adds 5 bytes
        body = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF) + data
    header = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


class BgzfWriter:
    """A file that turns the bytes written to it into BGZF; the end-of-file block is written on close.

    Examples
    --------
    >>> import gzip, tempfile
    >>> from pathlib import Path
    >>> from gpuatac.io.files.bgzf import BgzfWriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.gz")
    ...     with BgzfWriter(path) as out:
    ...         out.write(b"chr1\\t0\\t10\\n")
    ...     gzip.decompress(path.read_bytes())
    b'chr1\\t0\\t10\\n'
    """

    def __init__(self, path: str | Path, *, level: int = 1) -> None:
        self._file = Path(path).open("wb")
        self._level = level
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        data = self._rest + data
        whole = len(data) - len(data) % BLOCK
        for lo in range(0, whole, BLOCK):
            self._file.write(bgzf_block(data[lo : lo + BLOCK], self._level))
        self._rest = data[whole:]

    def close(self) -> None:
        """Write what is left and the end-of-file block."""
        if not self._file.closed:
            if self._rest:
                self._file.write(bgzf_block(self._rest, self._level))
            self._file.write(EOF)
            self._file.close()

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
