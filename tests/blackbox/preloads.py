"""What is preloaded into a custodian so that something happens to it: tests/stress/*.c, as built in
the folder SSO_HSM_PRELOADS."""

import mmap
import os
import struct
from pathlib import Path

import pytest

FOLDER = os.environ.get("SSO_HSM_PRELOADS")


def preload(name):
    """Its path; skips the test where there is none. A sanitizer must be the first that is loaded."""
    if not FOLDER:
        pytest.skip("SSO_HSM_PRELOADS: nothing to preload")
    return str(Path(FOLDER) / f"lib{name}.so")


class Shared:
    """A file of 64-bit numbers that the preloaded code reads and writes too."""

    def __init__(self, path, *numbers):
        self.path = path
        self.path.write_bytes(struct.pack(f"={len(numbers)}q", *numbers))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 8 * len(numbers))

    def put(self, place, number):
        self.map[8 * place:8 * place + 8] = struct.pack("=q", number)

    def get(self, place):
        return struct.unpack("=q", self.map[8 * place:8 * place + 8])[0]


class FullDisk(Shared):
    """full_disk.c: how many writes of the database still succeed (negative: all), and how many fail
    after them."""

    def __init__(self, it):
        super().__init__(it.directory / "full-disk", -1, 0)

    def fill(self, succeed, fail):
        # The number that arms it comes last.
        self.put(1, fail)
        self.put(0, succeed)

    def failures_left(self):
        return self.get(1) if self.get(0) >= 0 else 0

    def empty(self):
        self.put(0, -1)


class MovedClock(Shared):
    """moved_clock.c: by how many seconds the wall clock is wrong."""

    def __init__(self, it):
        super().__init__(it.directory / "moved-clock", 0)

    def move(self, seconds):
        self.put(0, self.get(0) + seconds)
