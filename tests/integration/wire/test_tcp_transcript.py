"""The transcripts in docs/wire-format.md are held against a listener, byte by byte.

A line is `C` or `S` (who sends it: the caller or the server), the bytes in hex, and a comment after `#`.
The caller's nonce is 00 01 .. 0f and the listener's is 10 11 .. 1f.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from wire_tools import Wires, packed

from coterie.codec.frames import PREFIX
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import messages
from coterie.engines.tcp.config import WireConfig

PAGE = Path(__file__).parents[3] / "docs" / "wire-format.md"


@dataclass(frozen=True)
class Transcript:
    """One conversation of the page: its title, its cluster key, and who sends what."""

    title: str
    key: str
    lines: tuple[tuple[str, bytes], ...]


def transcripts() -> list[Transcript]:
    found = []
    for block in re.findall(r"```transcript\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        title, key, lines = "", "", []
        for line in block.splitlines():
            if match := re.fullmatch(r"# (.*?)(?:; key: (.*))?", line):
                title, key = match[1], match[2] or ""
                continue
            sender, _, rest = line.partition(" ")
            lines.append((sender, bytes.fromhex(rest.partition("#")[0])))
        found.append(Transcript(title, key, tuple(lines)))
    return found


class Fixed(SystemEntropy):
    """The nonces of the page."""

    def secret(self, count: int) -> bytes:
        return bytes(range(16, 16 + count))


@pytest.mark.parametrize("transcript", transcripts(), ids=lambda transcript: transcript.title)
async def test_transcript(wires: Wires, transcript: Transcript) -> None:
    await wires.listen(cluster_key=transcript.key, entropy=Fixed())
    raw = await wires.stranger()
    for sender, group in groupby(transcript.lines, key=lambda line: line[0]):
        data = b"".join(content for _, content in group)
        if sender == "C":
            await raw.write(data)
        else:
            assert (await raw.reader.readexactly(len(data))).hex(" ") == data.hex(" ")


def test_there_are_transcripts() -> None:
    titles = [transcript.title for transcript in transcripts()]
    assert len(titles) >= 5
    assert len(set(titles)) == len(titles)


def test_every_frame_of_a_caller_is_what_the_program_would_send() -> None:
    for transcript in transcripts():
        for sender, data in transcript.lines:
            if sender == "C" and not transcript.title.startswith(("A malformed", "A frame above")):
                (size,) = PREFIX.unpack_from(data)
                assert size == len(data) - 4
                assert messages.encode(messages.decode(data[4:])) == data[4:]


def test_every_kind_of_message_is_in_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE))
    kinds = {str(cls.__struct_config__.tag): cls for cls in messages.Message.__args__}
    assert {tag: cls.__name__ for tag, cls in kinds.items()} == rows
    for tag, cls in kinds.items():
        fields = ", ".join(cls.__struct_fields__)
        assert f"| {tag} | `{cls.__name__}` | {f'`{fields}`' if fields else '-'} |" in page


def test_every_limit_is_in_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    config = WireConfig()
    for name in (
        "max_body_bytes",
        "max_in_flight",
        "credit_items",
        "hello_timeout_s",
        "keepalive_s",
        "stall_s",
    ):
        assert f"| `{name}` | {getattr(config, name):g} |".replace("1.67772e+07", "16777216") in page
    assert str(config.max_frame_bytes - config.max_body_bytes) in page
    assert msgspec.msgpack.decode(packed(config.max_in_flight)) == config.max_in_flight
