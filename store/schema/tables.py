"""Writes what a copy needs of each table into a C source: tables.py OUT.c FILE.sql …. The tables are
those of the SQLite schema; every other schema has the same, with the same columns."""
import pathlib
import sqlite3
import sys

TYPES = {"INTEGER": "i", "TEXT": "t", "BLOB": "b"}


def order_of(db, table, columns):
    key = [name for _, name, _, _, _, place in sorted(columns, key=lambda c: c[5]) if place > 0]
    if key:
        return key
    for _, index, unique, *_ in sorted(db.execute(f"PRAGMA index_list({table})").fetchall(),
                                       key=lambda row: row[1], reverse=True):
        if unique:
            return [row[2] for row in db.execute(f"PRAGMA index_info({index})")]
    sys.exit(f"{table} has no key by which its rows could be compared")


def main():
    out, *files = sys.argv[1:]
    db = sqlite3.connect(":memory:")
    for file in files:
        db.executescript(pathlib.Path(file).read_text(encoding="utf-8"))
    lines = ['#include "store/sql_copy.h"', "", "const struct sql_table sql_tables[] = {"]
    for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"):
        if table == "schema_migrations":
            continue
        columns = db.execute(f"PRAGMA table_info({table})").fetchall()
        names = ", ".join(column[1] for column in columns)
        marks = ", ".join("?" * len(columns))
        types = "".join(TYPES[column[2]] for column in columns)
        order = ", ".join(order_of(db, table, columns))
        lines.append(f'    {{"{table}", "{types}",\n     "SELECT {names} FROM {table} ORDER BY {order}",\n'
                     f'     "INSERT INTO {table} ({names}) VALUES ({marks})",\n'
                     f'     "SELECT 1 FROM {table} LIMIT 1"}},')
    lines += ["};", "const unsigned sql_tables_count = sizeof sql_tables / sizeof sql_tables[0];", ""]
    pathlib.Path(out).write_text("\n".join(lines), encoding="utf-8")


main()
