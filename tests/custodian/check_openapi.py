"""check_openapi.py OPERATIONS-DOC OPENAPI.YAML: the document names every operation of the table with
its name and roles, and no other."""

import subprocess
import sys

import yaml

PROGRAM, DOCUMENT = sys.argv[1:]
METHODS = ("get", "put", "post", "patch", "delete")


def documented():
    with open(DOCUMENT, encoding="utf-8") as file:
        paths = yaml.safe_load(file)["paths"]
    return {(method.upper(), path): (operation["operationId"], set(operation["x-roles"]))
            for path, item in paths.items() for method, operation in item.items() if method in METHODS}


def real():
    lines = subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout.splitlines()
    table = {}
    for line in lines:
        method, path, name, roles = line.split(" ")
        table[method, path] = (name.replace(".", "_"), set(roles.split(",")))
    return table


def main():
    there, wanted = documented(), real()
    findings = [f"{key} is an operation and stands not in {DOCUMENT}" for key in wanted if key not in there]
    findings += [f"{key} stands in {DOCUMENT} and is no operation" for key in there if key not in wanted]
    findings += [f"{key}: {there[key]} in {DOCUMENT}, {wanted[key]} in the table"
                 for key in wanted if key in there and there[key] != wanted[key]]
    print("\n".join(findings) or f"{len(wanted)} operations")
    sys.exit(1 if findings else 0)


main()
