"""Secrets in texts. Pure."""

from __future__ import annotations

from wsadapter.worker.masking import Secrets, masked


def test_a_secret_is_masked_wherever_it_stands() -> None:
    assert masked("key=abcd, key=abcd!", ["abcd"]) == "key=***, key=***!"


def test_the_longer_of_two_secrets_is_masked_first() -> None:
    assert masked("abcdefgh", ["abcd", "abcdefgh"]) == "***"


def test_a_short_secret_is_not_masked() -> None:
    assert masked("abc", ["abc"]) == "abc"


def test_what_a_hook_added_to_a_frame_is_a_secret() -> None:
    secrets = Secrets(["password"])
    secrets.learn({"op": "login", "args": ["key1"]}, {"op": "login", "args": ["key1", {"sign": "0123"}]})
    assert secrets.mask("login key1 with 0123 and password") == "login key1 with *** and ***"


def test_old_signatures_are_forgotten() -> None:
    secrets = Secrets(())
    for number in range(257):
        secrets.learn({}, {"sign": f"signature-{number:03}"})
    assert secrets.mask("signature-000 signature-001") == "signature-000 ***"
