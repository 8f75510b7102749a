"""Sets the PIN of a new NSS key database. A process of its own, for the module's sake.

    nss_pin.py MODULE INIT_ARGS PIN
"""

import ctypes
import sys

ULONG, PTR = ctypes.c_ulong, ctypes.c_void_p
OS_LOCKING_OK, SERIAL_RW, SECURITY_OFFICER = 2, 6, 0


class InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS, and one member behind it that NSS reads."""
    _fields_ = [("create", PTR), ("destroy", PTR), ("lock", PTR), ("unlock", PTR), ("flags", ULONG),
                ("parameters", ctypes.c_char_p), ("past_the_end", PTR)]


def function_list(path):
    """NSS has all functions under their own names, the FIPS module of tests/pkcs11 only through its
    function list: 68 pointers behind two bytes of version, in the order of the standard."""
    get = ctypes.CDLL(path).C_GetFunctionList
    table = PTR()
    check(get(ctypes.byref(table)), "C_GetFunctionList")
    entries = (PTR * 69).from_address(table.value)
    places = {"C_Initialize": 1, "C_Finalize": 2, "C_GetSlotList": 5, "C_InitPIN": 11,
              "C_OpenSession": 13, "C_Login": 19}
    call = ctypes.CFUNCTYPE(ULONG)
    return {name: ctypes.cast(entries[place], call) for name, place in places.items()}


def check(rv, what):
    if rv != 0:
        sys.exit(f"{what}: {rv:#x}")


def main(path, init_args, pin):
    module = function_list(path)
    args = InitializeArgs(flags=OS_LOCKING_OK, parameters=init_args.encode())
    check(module["C_Initialize"](ctypes.byref(args)), "C_Initialize")
    slots, count, session = (ULONG * 8)(), ULONG(8), ULONG()
    check(module["C_GetSlotList"](ctypes.c_ubyte(1), slots, ctypes.byref(count)), "C_GetSlotList")
    # The last slot is the key database; without FIPS mode there is one without keys before it.
    check(module["C_OpenSession"](ULONG(slots[count.value - 1]), ULONG(SERIAL_RW), None, None,
                                  ctypes.byref(session)), "C_OpenSession")
    check(module["C_Login"](session, ULONG(SECURITY_OFFICER), b"", ULONG(0)), "C_Login")
    check(module["C_InitPIN"](session, pin.encode(), ULONG(len(pin))), "C_InitPIN")
    check(module["C_Finalize"](None), "C_Finalize")


if __name__ == "__main__":
    main(*sys.argv[1:])
