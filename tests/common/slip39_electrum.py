"""Debian's electrum, an implementation of SLIP-39 that shares no line with ours, joins our shares.

    slip39_electrum.py PROGRAM-THAT-WRITES-SETS
"""

import itertools
import json
import subprocess
import sys

SUBSETS_OF_A_SET = 12


def main(program):
    try:
        from electrum import slip39
    except ImportError as error:
        print(f"no electrum under {sys.executable}: {error}")
        return 77
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr)
        return done.returncode
    joined = sets = 0
    for line in done.stdout.splitlines():
        given = json.loads(line)
        sets += 1
        subsets = itertools.combinations(given["shares"], given["threshold"])
        for subset in itertools.islice(subsets, SUBSETS_OF_A_SET):
            encrypted = slip39.recover_ems(list(subset))
            secret = encrypted.decrypt(given["passphrase"]).hex()
            assert secret == given["secret"], (given["threshold"], len(given["shares"]))
            joined += 1
    print(f"electrum joined {joined} subsets of {sets} sets")
    return 0 if joined > 0 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
