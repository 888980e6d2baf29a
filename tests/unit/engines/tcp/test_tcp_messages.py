"""What is framed by hand on the hot path is what the encoder would have made."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.codec.frames import FrameSplitter
from coterie.engines.common.calls import printable
from coterie.engines.tcp.messages import (
    REPLY_HEAD_BYTES,
    Cancel,
    Reply,
    decode,
    encode,
    pack_reply,
)

ids = st.integers(0, 2**64 - 1)


@given(ids, st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists, max_leaves=5))
def test_a_reply_framed_by_hand_is_a_reply(id_: int, value: object) -> None:
    body = msgspec.msgpack.encode(value)
    frame = pack_reply(REPLY_HEAD_BYTES + len(body), 0x93, 5, 0xCF, id_) + body
    (cut,) = FrameSplitter(max_bytes=1 << 20).feed(frame)
    message = decode(cut)
    assert message == Reply(id_, msgspec.Raw(body))
    assert decode(encode(message)) == message


@pytest.mark.parametrize("id_", [-1, -(2**63)])
def test_no_message_has_a_negative_id(id_: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode([8, id_]))
    assert decode(msgspec.msgpack.encode([8, 2**64 - 1])) == Cancel(2**64 - 1)


@given(st.text())
def test_text_of_a_peer_is_shown_without_what_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable() or len(text) > 500


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve 漢字", "plain, naïve 漢字"),
        ("a\nWARNING b\r\t\x00", r"a\nWARNING b\r\t\x00"),
        ("\x1b[2J\x9b0m", r"\x1b[2J\x9b0m"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("x" * 501, "x" * 500 + "..."),
    ],
)
def test_text_of_a_peer(text: str, shown: str) -> None:
    assert printable(text) == shown
