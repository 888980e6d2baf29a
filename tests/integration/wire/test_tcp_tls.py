"""TLS and mutual TLS: who is let in, and what those who are not are told."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import pytest
from wire_tools import Certificates, Wires, call, eventually

from coterie.errors import InvalidConfiguration, Outcome, Unavailable


async def test_calls_over_tls(wires: Wires, certificates: Certificates) -> None:
    await wires.listen(server_ssl=certificates.server())
    channel = wires.channel(client_ssl=certificates.client())
    assert await call(channel, "a secret") == "a secret"
    assert len(await call(channel, 5_000_000, "grow")) == 5_000_000
    assert [bytes(item) async for item in channel.stream("count", b"\x03", timeout_s=20)] == [
        b"\x00",
        b"\x01",
        b"\x02",
    ]
    assert wires.wires[0].guarantees.encrypted
    assert not wires.wires[0].guarantees.authenticated


async def test_the_name_of_the_certificate_may_be_configured(
    wires: Wires, certificates: Certificates
) -> None:
    await wires.listen(server_ssl=certificates.server("other"))
    good = wires.channel(client_ssl=certificates.client(), server_hostname="other")
    assert await call(good) == 1
    with pytest.raises(Unavailable, match=r"TLS: .*127\.0\.0\.1") as caught:
        await call(wires.channel(client_ssl=certificates.client()))
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_certificate_of_another_authority_is_refused(
    wires: Wires, certificates: Certificates, strangers: Certificates
) -> None:
    await wires.listen(server_ssl=strangers.server())
    with pytest.raises(Unavailable, match=r"TLS: .*(self.signed|issuer)") as caught:
        await call(wires.channel(client_ssl=certificates.client()))
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert wires.answers.started == 0


async def test_mutual_tls_lets_in_who_has_a_certificate(wires: Wires, certificates: Certificates) -> None:
    await wires.listen(server_ssl=certificates.server(mutual=True))
    assert wires.wires[0].guarantees.authenticated
    assert await call(wires.channel(client_ssl=certificates.client("other"))) == 1


@pytest.mark.parametrize("foreign", [False, True], ids=["none", "foreign"])
async def test_mutual_tls_refuses_others(
    wires: Wires, certificates: Certificates, strangers: Certificates, foreign: bool
) -> None:
    await wires.listen(server_ssl=certificates.server(mutual=True))
    context = certificates.client()
    if foreign:
        context.load_cert_chain(strangers.directory / "node.crt", strangers.directory / "node.key")
    with pytest.raises(Unavailable) as caught:
        await call(wires.channel(client_ssl=context), timeout_s=10)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert wires.answers.started == 0
    assert await call(wires.channel(client_ssl=certificates.client("node"))) == 1


async def test_a_caller_without_tls_is_told_soon(wires: Wires, certificates: Certificates) -> None:
    await wires.listen(server_ssl=certificates.server())
    with pytest.raises(Unavailable) as caught:
        await call(wires.channel())
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_caller_with_tls_of_a_listener_without_is_told_soon(
    wires: Wires, certificates: Certificates
) -> None:
    await wires.listen()
    with pytest.raises(Unavailable, match=r"TLS|reset|closed") as caught:
        await call(wires.channel(client_ssl=certificates.client()))
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_peer_that_never_begins_tls_is_dropped(wires: Wires, certificates: Certificates) -> None:
    await wires.listen(server_ssl=certificates.server(), hello_timeout_s=0.1)
    raw = await wires.stranger()
    async with asyncio.timeout(10):
        assert await raw.reader.read() == b""
    assert await call(wires.channel(client_ssl=certificates.client())) == 1


async def test_a_peer_that_says_nothing_within_tls_is_dropped(
    wires: Wires, certificates: Certificates
) -> None:
    await wires.listen(server_ssl=certificates.server(), hello_timeout_s=0.1)
    raw = await wires.stranger(ssl=certificates.client())
    assert [type(message).__name__ for message in await raw.rest()] == ["Reject"]
    await eventually(lambda: not wires.listener.connections)


async def test_garbage_within_tls_harms_only_its_connection(wires: Wires, certificates: Certificates) -> None:
    await wires.listen(server_ssl=certificates.server())
    channel = wires.channel(client_ssl=certificates.client())
    assert await call(channel) == 1
    waiting = asyncio.ensure_future(call(channel, 2, "wait"))
    for data in (b"\xff" * 4, b"\x00\x00\x00\x01\xc1", b"GET / HTTP/1.1\r\n\r\n"):
        raw = await wires.stranger(ssl=certificates.client())
        await raw.write(data)
        assert [type(message).__name__ for message in await raw.rest()] == ["Reject"]
    wires.answers.release.set()
    assert await waiting == 2


async def test_bytes_that_are_not_tls_harm_only_their_connection(
    wires: Wires, certificates: Certificates
) -> None:
    await wires.listen(server_ssl=certificates.server())
    for data in (b"\x00" * 100, b"\xff" * 5000, b"\x16\x03\x01\x00\x05hello"):
        raw = await wires.stranger()
        await raw.write(data)
        raw.writer.write_eof()
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                await raw.reader.read()
    assert await call(wires.channel(client_ssl=certificates.client())) == 1


BEYOND = ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "a-name-of-a-machine:0"]


@pytest.mark.parametrize("address", BEYOND)
async def test_beyond_loopback_needs_a_key_or_mutual_tls(
    wires: Wires, certificates: Certificates, address: str
) -> None:
    for options in ({}, {"server_ssl": certificates.server()}):
        with pytest.raises(InvalidConfiguration, match="needs a cluster key or mutual TLS") as caught:
            await wires.listen(address, **options)
        assert "COTERIE_CLUSTER_KEY" in str(caught.value)


@pytest.mark.parametrize("mutual", [True, False], ids=["mutual", "key"])
async def test_beyond_loopback_with_authentication(
    wires: Wires, certificates: Certificates, mutual: bool
) -> None:
    if mutual:
        options = {"server_ssl": certificates.server(mutual=True), "client_ssl": certificates.client("node")}
    else:
        options = {"cluster_key": "a key of some length"}
    listener = await wires.listen("0.0.0.0:0", **options)
    port = listener.address.rpartition(":")[2]
    assert await call(wires.channel(f"127.0.0.1:{port}", **options)) == 1


async def test_a_context_of_another_protocol_version_is_refused(
    wires: Wires, certificates: Certificates
) -> None:
    server, client = certificates.server(), certificates.client()
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    await wires.listen(server_ssl=server)
    with pytest.raises(Unavailable, match=r"protocol|version|closed while it was made") as caught:
        await call(wires.channel(client_ssl=client))
    assert caught.value.outcome is Outcome.NOT_APPLIED
