"""lookups.py SOCKET ROWS PER_SECOND SEED: looks up principals of the bench at an even pace until
SIGTERM, then prints how many milliseconds each took. Exit 1 where one failed."""

import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "blackbox"))
from installation import Connection  # noqa: E402


def main(socket, rows, per_second, seed):
    stop, taken = [], []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    rng = random.Random(int(seed))
    connection = Connection(socket)
    due = time.monotonic() + rng.random() / per_second
    while not stop:
        due += 1 / per_second
        time.sleep(max(0.0, due - time.monotonic()))
        # One that comes too late because the one before took long is not waited for twice.
        due = max(due, time.monotonic())
        began = time.monotonic()
        reply = connection.call("POST", "/v1/lookup",
                                {"app": "app", "principal": f"p{rng.randrange(rows):08d}"})
        taken.append((time.monotonic() - began) * 1000)
        if reply.status != 200:
            print(reply, file=sys.stderr)
            return 1
    print("\n".join(f"{each:.3f}" for each in taken))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
