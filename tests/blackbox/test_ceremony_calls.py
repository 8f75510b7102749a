"""What a ceremony asks of the token: the log of every call of `init --shares`, replayed object by
object (tests/pkcs11/faulty)."""

import collections
from dataclasses import dataclass

import pytest

from backups import Backup
from faulty import Call, FaultyToken
from installation import NssToken

TOKEN, VALUE, SENSITIVE, EXTRACTABLE = 0x1, 0x11, 0x103, 0x162
OK = "0x0"
MAKERS = ("C_CreateObject", "C_CopyObject", "C_GenerateKey", "C_GenerateKeyPair", "C_UnwrapKey",
          "C_DeriveKey")


@dataclass
class Object:
    """One that the token made for us."""

    call: Call
    template: dict
    end: str = None  # how it went: C_DestroyObject, C_CloseSession, C_Finalize

    @property
    def is_token(self):
        return self.template.get(TOKEN) == 1

    @property
    def stays_inside(self):
        return self.template.get(SENSITIVE) == 1 and self.template.get(EXTRACTABLE) == 0


class Replay:
    """The objects of all processes, each as it was made, and how each went."""

    def __init__(self, calls):
        self.calls = calls
        self.objects, self.all = {}, []
        self.reads, self.wraps = [], []  # (call, objects as they were then)
        for call in calls:
            self.see(call)

    def at(self, call, which):
        return self.objects.get((call.pid, call.objects[which]))

    def see(self, call):
        if call.function == "C_GetAttributeValue" and VALUE in call.attributes:
            self.reads.append((call, self.at(call, 0)))
        if call.result != OK:
            return
        if call.function == "C_WrapKey":
            self.wraps.append((self.at(call, 0), self.at(call, 1)))
        elif call.function in MAKERS:
            templates = [call.public, call.attributes][-len(call.made):]
            for handle, template in zip(call.made, templates, strict=True):
                self.objects[call.pid, handle] = Object(call, template)
                self.all.append(self.objects[call.pid, handle])
        elif call.function == "C_DestroyObject":
            gone = self.objects.pop((call.pid, call.objects[0]), None)
            if gone is not None:
                gone.end = call.function
        elif call.function in ("C_CloseSession", "C_Finalize"):
            self.session_ends(call)

    def session_ends(self, call):
        for key, each in list(self.objects.items()):
            if key[0] == call.pid and not each.is_token and (
                    call.function == "C_Finalize" or each.call.session == call.session):
                each.end = call.function
                del self.objects[key]

    def made_by_unwrapping_with(self, key):
        return [each for each in self.all if each.call.function == "C_UnwrapKey" and
                each.call.objects[0] in key.call.made and each.call.pid == key.call.pid]


def check_calls(calls, reading_allowed, copies_refused):
    replay = Replay(calls)
    installed = [each for each in replay.all if each.is_token and each.call.function == "C_UnwrapKey"]
    master, = installed  # one token object was unwrapped: the master secret
    wrapping_key, = [each for each in replay.all
                     if master in replay.made_by_unwrapping_with(each)]
    backup, = [object_ for with_, object_ in replay.wraps if with_ is wrapping_key]
    assert backup.call.function == "C_GenerateKey" and not backup.is_token
    assert backup.template[SENSITIVE] == 1 and backup.template[EXTRACTABLE] == 1
    assert not wrapping_key.is_token and wrapping_key.stays_inside and master.stays_inside
    # Both are destroyed by name, not left to the end of a session.
    assert backup.end == wrapping_key.end == "C_DestroyObject"
    assert replay.calls.index(backup.call) < replay.calls.index(master.call)

    # No value is read: the evidence tries to, of the master secret only, and is refused. On a token
    # that gives row keys by reading, the canary's row key is the one that is read.
    for call, of in replay.reads:
        given = call.result == OK or call.attributes[VALUE] >= 0
        if not given:
            assert of is master or of is None or not of.is_token, call
            assert of is not backup and of is not wrapping_key, call
            continue
        assert reading_allowed and of is not None, call
        assert of.call.function == "C_UnwrapKey" and not of.is_token, call
        assert of.template[SENSITIVE] == 0, call
        assert of is not backup and of not in replay.made_by_unwrapping_with(wrapping_key), call
    assert [call for call, of in replay.reads if of is master], "the evidence tried it"

    # No token object that could leave, at any time; nothing made one of another or so later.
    tokens = [each for each in replay.all if each.is_token]
    assert len(tokens) == 2, "the master secret and the audit signing key"
    for each in tokens:
        assert each.stays_inside, each
    for call in calls:
        if call.function == "C_SetAttributeValue":
            assert call.result != OK, call
        if call.function == "C_CopyObject":
            assert TOKEN in call.attributes and call.attributes[TOKEN] == 0, call
            assert call.result != OK or not copies_refused, call

    # At the end: no session object.
    left = [each for each in replay.all if not each.is_token and each.end is None]
    assert not left, left
    opened = collections.Counter(call.function for call in calls if call.result == OK)
    assert opened["C_Initialize"] == opened["C_Finalize"] > 0
    return opened


def calls_of_init(installation, *control):
    token = FaultyToken(installation)
    token.control(*control)
    Backup(installation=installation)
    return token.calls()


def test_init_with_shares(make_installation):
    check_calls(calls_of_init(make_installation()), reading_allowed=True, copies_refused=True)


def test_init_on_a_token_whose_row_keys_are_not_read(make_installation):
    calls = calls_of_init(make_installation(), "refuse-non-sensitive")
    check_calls(calls, reading_allowed=False, copies_refused=True)


@pytest.mark.skipif(not NssToken.is_installed(), reason="no NSS softoken (libnss3) here")
def test_init_on_nss_in_fips_mode(make_installation, tmp_path):
    installation = make_installation(token=NssToken(tmp_path / "nss", fips=True))
    check_calls(calls_of_init(installation), reading_allowed=False, copies_refused=False)


def test_control_a_value_that_is_read_is_noticed(make_installation):
    """The check itself works: the same log with one read of the backup key that was answered."""
    calls = calls_of_init(make_installation())
    replay = Replay(calls)
    master, = [each for each in replay.all if each.is_token and each.call.function == "C_UnwrapKey"]
    with_key, = [each for each in replay.all if master in replay.made_by_unwrapping_with(each)]
    backup, = [object_ for with_, object_ in replay.wraps if with_ is with_key]
    read, = [call for call, of in replay.reads if of is master][:1]
    planted = Call(**{**vars(read), "objects": (backup.call.made[0], 0), "result": OK,
                      "pid": backup.call.pid, "session": backup.call.session,
                      "attributes": {VALUE: 32}})
    at = calls.index(backup.call) + 1
    with pytest.raises(AssertionError):
        check_calls(calls[:at] + [planted] + calls[at:], True, True)
