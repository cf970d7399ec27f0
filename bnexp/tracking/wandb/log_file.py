"""The file of an offline run: a log in the format of LevelDB. wandb has no writer of it in Python since 0.31.

``foreign/wandb_file.py`` reads it.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

BLOCK, HEADER = 32768, 7  # of a LevelDB log, bytes
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # kinds of its chunks
START = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)


class Log:
    """The content of a log of records."""

    def __init__(self) -> None:
        self.content = bytearray(START)
        self._count = 0

    def add(self, record: Any) -> None:
        """Append a record of W&B's protocol."""
        self._count += 1
        record.num = self._count
        rest, first = record.SerializeToString(), True
        while first or rest:
            left = BLOCK - len(self.content) % BLOCK
            if left < HEADER:
                self.content += bytes(left)
                left = BLOCK
            chunk, rest = rest[: left - HEADER], rest[left - HEADER :]
            kind = (FIRST if rest else FULL) if first else (MIDDLE if rest else LAST)
            self.content += struct.pack("<IHB", zlib.crc32(chunk, zlib.crc32(bytes([kind]))), len(chunk), kind) + chunk
            first = False
