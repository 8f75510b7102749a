"""The service over a token that does what a control file says (faulty.py)."""

from faulty import FaultyToken


def test_no_search_and_no_stale_handle_on_the_request_path(make_installation):
    """Handles are found once in a session's life; no handle of one session is used in another."""
    it = make_installation(cache={"max_entries": "16"})
    token = FaultyToken(it)
    token.control()
    it.init()
    it.start()
    it.create_app()
    it.fill(300)
    token.forget_calls()
    items = [{"app": "app", "principal": f"p{n:06d}", "refresh": True} for n in range(300)]
    for _ in range(3):
        it.api("POST", "/v1/lookup", {"items": items}, status=200)
    calls = token.calls()
    assert sum(call.function == "C_UnwrapKey" for call in calls) >= 300
    assert not [call for call in calls if call.function.startswith("C_FindObjects")]
    assert not [call for call in token.calls() if call.stale]
