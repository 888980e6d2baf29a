"""The frame splitter under any cut of any stream, and under garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.codec.frames import PREFIX, FrameSplitter
from coterie.errors import ProtocolError

LIMIT = 40_000
frames = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, LIMIT).map(lambda size: b"x" * size),
        st.integers(16_380, 16_390).map(lambda size: b"y" * size),
    ),
    max_size=8,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at `places`, each taken modulo its length."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, ends, strict=False)]


def take(splitter: FrameSplitter, chunks: list[bytes]) -> tuple[list[bytes], bool]:
    """Feed `chunks`; return the frames, and whether an error ended them."""
    taken: list[bytes] = []
    for chunk in chunks:
        before = splitter.partial
        try:
            taken.extend(bytes(frame) for frame in splitter.feed(chunk))
        except ProtocolError:
            return taken, True
        assert splitter.partial <= before + len(chunk)
        assert splitter.partial < 4 + splitter.max_bytes
    return taken, False


@given(frames, st.lists(st.integers(0, 1 << 20), max_size=30))
def test_any_cut_gives_the_same_frames(content: list[bytes], places: list[int]) -> None:
    stream = b"".join(PREFIX.pack(len(frame)) + frame for frame in content)
    splitter = FrameSplitter(LIMIT)
    assert take(splitter, cut(stream, places)) == (content, False)
    assert splitter.partial == 0


@given(frames, st.lists(st.integers(0, 1 << 20), max_size=10), st.integers(0, 1 << 20))
def test_a_stream_that_stops_gives_the_whole_frames(
    content: list[bytes], places: list[int], stop: int
) -> None:
    stream = b"".join(PREFIX.pack(len(frame)) + frame for frame in content)
    stream = stream[: stop % (len(stream) + 1)]
    taken, failed = take(FrameSplitter(LIMIT), cut(stream, places))
    assert not failed
    assert taken == content[: len(taken)]
    used = sum(4 + len(frame) for frame in taken)
    assert len(taken) == len(content) or len(stream) < used + 4 + len(content[len(taken)])


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=20), st.integers(0, 1000))
def test_garbage_raises_nothing_but_its_own_error_at_any_cut(
    data: bytes, places: list[int], limit: int
) -> None:
    whole = take(FrameSplitter(limit), [data])
    assert take(FrameSplitter(limit), cut(data, places)) == whole
    assert all(len(frame) <= limit for frame in whole[0])


@given(frames, st.integers(LIMIT + 1, 2**32 - 1), st.lists(st.integers(0, 1 << 20), max_size=10))
def test_an_oversized_frame_ends_the_stream_after_those_before_it(
    content: list[bytes], size: int, places: list[int]
) -> None:
    stream = b"".join(PREFIX.pack(len(frame)) + frame for frame in content) + PREFIX.pack(size)
    assert take(FrameSplitter(LIMIT), cut(stream, places)) == (content, True)


def test_a_cut_is_whole() -> None:
    assert b"".join(cut(b"abcdef", [3, 1, 9])) == b"abcdef"
    with pytest.raises(ProtocolError):
        list(FrameSplitter(1).feed(b"\x00\x00\x00\x02ab"))
