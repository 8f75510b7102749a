"""Restores a master secret from a backup file and shares by docs/backup-format.md alone: SLIP-39 of its
own, and OpenSSL's command line for everything else. Shares no line with the programs.

    restore_by_hand.py BACKUP SHARE …            (without a passphrase)
"""

import hashlib
import hmac
import subprocess
import sys
from pathlib import Path


# --- SLIP-0039 ---

def word_list():
    """The table of the standard as the programs' own source has it; its hash is the standard's."""
    source = Path(__file__).resolve().parents[2] / "common" / "slip39_words.c"
    words = [part for part in source.read_text().split('"')[1::2] if part.isalpha() and part.islower()]
    assert hashlib.sha256("".join(word + "\n" for word in words).encode()).hexdigest() == \
        "bcc4555340332d169718aed8bf31dd9d5248cb7da6e5d355140ef4f1e601eec3"
    return words


def multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def invert(a):
    return next(b for b in range(1, 256) if multiply(a, b) == 1)


def interpolate(points, x):
    result = bytes(len(points[0][1]))
    for xi, yi in points:
        factor = 1
        for xj, _ in points:
            if xj != xi:
                factor = multiply(factor, multiply(x ^ xj, invert(xi ^ xj)))
        result = bytes(r ^ multiply(factor, y) for r, y in zip(result, yi))
    return result


def read_share(path, words):
    text = " ".join(line for line in Path(path).read_text().splitlines() if not line.startswith("#"))
    return share_of(text.split(), words)


def share_of(mnemonic, words):
    numbers = [words.index(word) for word in mnemonic]
    bits = 0
    for number in numbers[:-3]:
        bits = bits << 10 | number
    value_bits = 10 * (len(numbers) - 7)
    value = bits & (1 << value_bits) - 1
    head = bits >> value_bits
    return {"identifier": head >> 25, "exponent": head >> 20 & 15, "index": head >> 4 & 15,
            "threshold": (head & 15) + 1, "value": value.to_bytes(value_bits // 16 * 2, "big")}


def join(shares):
    first = shares[0]
    assert len(shares) >= first["threshold"], "too few shares"
    points = [(share["index"], share["value"]) for share in shares]
    secret = points[0][1] if first["threshold"] == 1 else interpolate(points, 255)
    if first["threshold"] > 1:
        digest = interpolate(points, 254)
        assert hmac.new(digest[4:], secret, "sha256").digest()[:4] == digest[:4], "wrong shares"
    half = len(secret) // 2
    left, right = secret[:half], secret[half:]
    salt = b"shamir" + first["identifier"].to_bytes(2, "big")
    for turn in (3, 2, 1, 0):
        mask = hashlib.pbkdf2_hmac("sha256", bytes([turn]), salt + right, 2500 << first["exponent"], half)
        left, right = right, bytes(a ^ b for a, b in zip(left, mask))
    return right + left


# --- OpenSSL ---

def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def hkdf(secret, info, count):
    return openssl("kdf", "-binary", "-keylen", str(count), "-kdfopt", "digest:SHA256", "-kdfopt",
                   f"hexkey:{secret.hex()}", "-kdfopt", f"hexinfo:{info.hex()}", "HKDF")


def unwrap(key, wrapped):
    return openssl("enc", "-d", "-id-aes256-wrap", "-K", key.hex(), "-iv", "A6A6A6A6A6A6A6A6", data=wrapped)


def main(backup, *paths):
    raw = Path(backup).read_bytes()
    lines = [line.split(": ", 1) for line in raw.decode().splitlines()[1:] if not line.startswith("#")]
    fields = dict(lines)
    words = word_list()
    secret = join([read_share(path, words) for path in paths])
    system, number = bytes.fromhex(fields["system-id"]), int(fields["generation"])
    info = b"sso-hsm backup v1" + system + number.to_bytes(4, "big")
    assert hkdf(secret, info + b"check", 8).hex() == fields["check"], "other shares, or another file"
    covered = raw[:raw.index(b"\nmac: ") + 1]
    mac = openssl("dgst", "-sha256", "-mac", "HMAC", "-macopt",
                  f"hexkey:{hkdf(secret, info + b'mac', 32).hex()}", "-binary", data=covered)
    assert mac.hex() == fields["mac"], "the file was changed"
    master = unwrap(hkdf(secret, info + b"kek", 32), bytes.fromhex(fields["wrapped-key"]))
    print(f"the master secret has {8 * len(master)} bits")
    assert fields["suite"] == "aes256-kw"
    canary = unwrap(master, bytes.fromhex(fields["canary"]))
    facts = system + number.to_bytes(4, "big") + bytes.fromhex(fields["secret-id"]) + b"\x01"
    assert hmac.new(canary, facts, "sha256").hexdigest() == fields["canary-mac"], "another key"
    print(f"the canary opens: this is the master secret of generation {number}")


if __name__ == "__main__":
    main(*sys.argv[1:])
