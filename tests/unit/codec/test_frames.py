"""The frame splitter: every cut of a stream gives the same frames, and bounds hold frame by frame."""

from __future__ import annotations

import pytest

from coterie.codec.frames import PREFIX, FrameSplitter
from coterie.errors import ProtocolError


def framed(*frames: bytes) -> bytes:
    return b"".join(PREFIX.pack(len(frame)) + frame for frame in frames)


def test_whole_frames_in_one_chunk() -> None:
    splitter = FrameSplitter(100)
    assert list(splitter.feed(framed(b"one", b"", b"three"))) == [b"one", b"", b"three"]
    assert splitter.partial == 0


def test_any_cut_gives_the_same_frames() -> None:
    frames = [b"one", b"", b"three" * 10]
    stream = framed(*frames)
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            splitter = FrameSplitter(100)
            got: list[bytes] = []
            for chunk in (stream[:first], stream[first:second], stream[second:]):
                got += [bytes(frame) for frame in splitter.feed(chunk)]
            assert got == frames
            assert splitter.partial == 0


def test_large_frames_are_views_and_small_ones_copies() -> None:
    small, large = FrameSplitter(1 << 20).feed(framed(b"s", b"l" * 20_000))
    assert type(small) is bytes
    assert type(large) is memoryview
    assert large == b"l" * 20_000


def test_a_frame_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert list(FrameSplitter(5).feed(framed(b"12345"))) == [b"12345"]
    with pytest.raises(ProtocolError, match="a frame of 6 bytes; the limit is 5"):
        list(FrameSplitter(5).feed(framed(b"123456")))


def test_an_oversized_frame_is_refused_by_its_length_alone() -> None:
    splitter = FrameSplitter(5)
    assert list(splitter.feed(b"\xff\xff")) == []
    with pytest.raises(ProtocolError):
        list(splitter.feed(b"\xff\xff"))
    assert splitter.partial <= 4


def test_frames_before_an_oversized_one_are_given() -> None:
    frames = FrameSplitter(5).feed(framed(b"fine", b"too long"))
    assert next(frames) == b"fine"
    with pytest.raises(ProtocolError):
        next(frames)


def test_the_limit_may_rise_between_two_frames_of_one_chunk() -> None:
    # A proof of the cluster key and the first call often arrive together.
    splitter = FrameSplitter(5)
    frames = splitter.feed(framed(b"proof", b"a long request"))
    assert next(frames) == b"proof"
    splitter.max_bytes = 100
    assert next(frames) == b"a long request"


def test_what_is_held_is_what_was_received() -> None:
    splitter = FrameSplitter(1 << 24)
    assert list(splitter.feed(PREFIX.pack(1 << 24))) == []
    for _ in range(10):
        assert list(splitter.feed(b"x" * 1000)) == []
    assert splitter.partial == 10_004
