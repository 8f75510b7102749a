"""Makes an AES-256 key with exactly the attributes that are asked for, which pkcs11-tool cannot: what
it does not name a token defaults to true. A process of its own each time, for the module's sake.

    pkcs11_key.py MODULE TOKEN PIN ID-HEX LABEL NAME=0|1 …
"""

import ctypes
import sys

ATTRIBUTES = {"class": 0x0, "token": 0x1, "private": 0x2, "label": 0x3, "key_type": 0x100, "id": 0x102,
              "sensitive": 0x103, "encrypt": 0x104, "decrypt": 0x105, "wrap": 0x106, "unwrap": 0x107,
              "sign": 0x108, "verify": 0x10A, "derive": 0x10C, "value_len": 0x161,
              "extractable": 0x162}
SECRET_KEY, AES, AES_KEY_GEN = 4, 0x1F, 0x1080
ULONG = ctypes.c_ulong


class Attribute(ctypes.Structure):
    _fields_ = [("type", ULONG), ("value", ctypes.c_void_p), ("length", ULONG)]


class Mechanism(ctypes.Structure):
    _fields_ = [("type", ULONG), ("parameter", ctypes.c_void_p), ("length", ULONG)]


def check(rv, what):
    if rv != 0:
        sys.exit(f"{what}: {rv:#x}")


def find_slot(module, label):
    count = ULONG()
    check(module.C_GetSlotList(1, None, ctypes.byref(count)), "C_GetSlotList")
    slots = (ULONG * count.value)()
    check(module.C_GetSlotList(1, slots, ctypes.byref(count)), "C_GetSlotList")
    info = ctypes.create_string_buffer(512)  # CK_TOKEN_INFO begins with 32 bytes of label
    for slot in slots:
        check(module.C_GetTokenInfo(ULONG(slot), info), "C_GetTokenInfo")
        if info.raw[:32].rstrip() == label.encode():
            return ULONG(slot)
    sys.exit(f"no token {label}")


def template(attributes):
    kept, rows = [], (Attribute * len(attributes))()
    for row, (name, value) in zip(rows, attributes.items()):
        if isinstance(value, bytes):
            data = ctypes.create_string_buffer(value, len(value))
        else:
            data = (ctypes.c_ubyte if isinstance(value, bool) else ULONG)(value)
        kept.append(data)
        row.type, row.length = ATTRIBUTES[name], ctypes.sizeof(data)
        row.value = ctypes.cast(ctypes.byref(data), ctypes.c_void_p)
    return kept, rows


def main(path, label, pin, key_id, key_label, *changes):
    wanted = {"class": SECRET_KEY, "key_type": AES, "value_len": 32, "token": True, "private": True,
              "label": key_label.encode(), "id": bytes.fromhex(key_id), "sensitive": True,
              "extractable": False, "wrap": True, "unwrap": True, "encrypt": False, "decrypt": False,
              "sign": False, "verify": False, "derive": False}
    for change in changes:
        name, value = change.split("=")
        wanted[name] = int(value) if name == "value_len" else value == "1"
    module = ctypes.CDLL(path)
    check(module.C_Initialize(None), "C_Initialize")
    session, key = ULONG(), ULONG()
    check(module.C_OpenSession(find_slot(module, label), ULONG(6), None, None,
                               ctypes.byref(session)), "C_OpenSession")
    check(module.C_Login(session, ULONG(1), pin.encode(), ULONG(len(pin))), "C_Login")
    _kept, rows = template(wanted)
    check(module.C_GenerateKey(session, ctypes.byref(Mechanism(AES_KEY_GEN, None, 0)), rows,
                               ULONG(len(rows)), ctypes.byref(key)), "C_GenerateKey")


if __name__ == "__main__":
    main(*sys.argv[1:])
