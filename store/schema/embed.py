"""Writes schema files into a C source: embed.py OUT.c NAME FILE.sql …, in the order of their numbers."""
import hashlib
import pathlib
import sys


def rows_of_bytes(data):
    for start in range(0, len(data), 16):
        yield "    " + ", ".join(f"0x{byte:02x}" for byte in data[start:start + 16]) + ","


def main():
    out, name, *files = sys.argv[1:]
    lines = ['#include "store/migration.h"', ""]
    table = []
    for number, file in enumerate(sorted(files, key=lambda f: pathlib.Path(f).name), start=1):
        path = pathlib.Path(file)
        if not path.name.startswith(f"{number:04}_"):
            sys.exit(f"{file}: expected the number {number:04}; numbers have no gaps")
        data = path.read_bytes()
        checksum = ", ".join(f"0x{byte:02x}" for byte in hashlib.sha256(data).digest())
        lines += [f"static const unsigned char sql_{number}[] = {{", *rows_of_bytes(data), "    0,", "};"]
        table += [f'    {{{number}, "{path.stem}", sql_{number}, {{{checksum}}}}},']
    lines += [f"const struct migration {name}[] = {{", *table, "};",
              f"const unsigned {name}_count = {len(table)};", ""]
    pathlib.Path(out).write_text("\n".join(lines), encoding="utf-8")


main()
