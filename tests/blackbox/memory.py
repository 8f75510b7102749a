"""What a process has in its memory. Needs root: our processes are not dumpable."""

import re
from pathlib import Path


def memory_of(pid):
    """Each mapping of a process that something can have been written to, by its line in maps."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            start, end, access = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            is_file_as_it_is = access[1] != "w" and "/" in line
            if access[0] == "r" and "[v" not in line and not is_file_as_it_is:
                try:
                    mem.seek(int(start, 16))
                    yield line.strip(), mem.read(int(end, 16) - int(start, 16))
                except (OSError, OverflowError):
                    continue


def locked_mappings(pid):
    """The address ranges that are locked (VmFlags lo), as maps writes them."""
    locked, name = set(), None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            name = line.split()[0]
        elif line.startswith("VmFlags:") and "lo" in line.split():
            locked.add(name)
    return locked


def found_in(data, wanted):
    return sorted({needle for needle in wanted if needle in data})


def scan(pid, wanted):
    """[(mapping, what was found in it)], of the mappings in which something was."""
    hits = []
    for where, data in memory_of(pid):
        found = found_in(data, wanted)
        if found:
            hits.append((where, found))
    return hits
