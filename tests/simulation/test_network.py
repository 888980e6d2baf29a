"""What the network does to packets: latency, loss, bandwidth, cuts in every shape, resets, names."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from coterie.errors import InvalidArgument
from coterie.simulation import Conditions, World, run
from coterie.simulation.network.links import Cut, Link
from coterie.simulation.network.tcp import GIVE_UP_S, WINDOW
from coterie.simulation.tape import Tape


async def echo_server() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    await (await asyncio.start_server(echo, port=80)).serve_forever()


def on_host(body: Any, *, names: str = "bc", **options: Any) -> Any:
    """Run `body(world)` on the host `a`, with echo servers on the others."""
    results: list[Any] = []

    async def main(world: World) -> None:
        for name in names:
            await world.start(name, echo_server)

        async def host() -> None:
            results.append(await body(world))

        await world.start("a", host)
        await world.wait("a")

    run(main, **{"seed": 1, **options})
    return results[0]


async def round_trip(name: str = "b", timeout_s: float = 5.0) -> bool:
    """Whether `name` answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(name, 80)
            writer.write(b"x")
            answered = await reader.readexactly(1) == b"x"
            writer.close()
            return answered
    except (OSError, TimeoutError):
        return False


async def measure(count: int = 20, size: int = 1) -> list[float]:
    """Return how long the messages of one connection take to `b` and back."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("b", 80)
    times = []
    for _ in range(count):
        began = loop.time()
        writer.write(bytes(size))
        await reader.readexactly(size)
        times.append(loop.time() - began)
    writer.close()
    return times


def test_latency_is_drawn_from_its_range() -> None:
    async def body(world: World) -> None:
        world.link("a", "b", latency_s=(0.1, 0.2))
        times = await measure()
        assert 0.2 <= min(times) < 0.26
        assert 0.34 < max(times) <= 0.401
        world.link("a", "b", latency_s=(0.5, 0.5), both=False)
        times = await measure()
        assert 0.6 <= min(times) <= max(times) <= 0.701

    on_host(body)


def test_tails_make_some_packets_late() -> None:
    async def body(world: World) -> None:
        world.link("a", "b", latency_s=(0.001, 0.001), tail=0.2, tail_s=(1.0, 2.0))
        times = await measure(50)
        late = [time_s for time_s in times if time_s > 1.0]
        assert 5 < len(late) < 35
        assert max(times) < 5

    on_host(body)


def test_loss_is_lateness_for_streams() -> None:
    async def body(world: World) -> None:
        world.link("a", "b", latency_s=(0.001, 0.001), loss=0.3)
        times = await measure(50)
        late = [time_s for time_s in times if time_s > 0.2]
        assert 10 < len(late) < 45

    on_host(body)


def test_bandwidth_queues() -> None:
    async def body(world: World) -> None:
        world.link("a", "b", latency_s=(0.001, 0.001), bytes_per_s=10_000, both=False)
        (time_s,) = await measure(1, size=50_000)
        assert time_s == pytest.approx(5.002, abs=0.01)

    on_host(body)


def test_fragments_arrive_in_order() -> None:
    async def body(world: World) -> None:
        world.link("a", "b", fragment=1.0)
        reader, writer = await asyncio.open_connection("b", 80)
        sent = b"".join(b"%d," % number for number in range(1000))
        for start in range(0, len(sent), 97):
            writer.write(sent[start : start + 97])
            await asyncio.sleep(0.0001)
        assert await reader.readexactly(len(sent)) == sent
        writer.close()

    on_host(body)


def test_a_partition_is_symmetric_and_heals() -> None:
    async def body(world: World) -> None:
        assert await round_trip("b")
        cuts = world.partition({"a"}, {"b"})
        assert not await round_trip("b")
        assert await round_trip("c")
        world.heal(cuts)
        assert await round_trip("b")
        world.partition({"a"})
        assert not await round_trip("b")
        assert not await round_trip("c")
        world.heal()
        assert await round_trip("b")
        assert await round_trip("c")

    on_host(body)


def test_cuts_add_up_and_are_mended_one_by_one() -> None:
    async def body(world: World) -> None:
        first = world.partition({"a"}, {"b", "c"})
        second = world.partition({"a", "c"}, {"b"})
        world.heal(first)
        assert await round_trip("c")
        assert not await round_trip("b")
        world.heal(second)
        assert await round_trip("b")

    on_host(body)


def test_a_host_in_several_groups_bridges_them() -> None:
    async def body(world: World) -> None:
        world.partition({"a", "c"}, {"b", "c"})
        assert not await round_trip("b")
        assert await round_trip("c")

    on_host(body)


@pytest.mark.parametrize("blocked", [("a", "b"), ("b", "a")])
def test_one_direction_can_be_blocked(blocked: tuple[str, str]) -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        source, target = blocked
        cuts = world.block({source}, {target})
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await reader.readexactly(1)
        assert not await round_trip("b")
        world.heal(cuts)
        assert await reader.readexactly(1) == b"x"
        writer.close()

    on_host(body)


def test_a_host_that_comes_later_is_on_its_side_of_the_partition() -> None:
    async def body(world: World) -> None:
        world.add_host("d")
        world.partition({"a"}, {"d"})
        await world.start("d", echo_server)
        assert not await round_trip("d")
        world.heal()
        assert await round_trip("d")

    on_host(body)


def test_what_is_sent_into_a_partition_arrives_after_it_with_growing_patience() -> None:
    async def body(world: World) -> float:
        reader, writer = await asyncio.open_connection("b", 80)
        world.partition({"a"}, {"b"})
        writer.write(b"patience")
        await asyncio.sleep(100)
        world.heal()
        healed = world.time
        assert await reader.readexactly(8) == b"patience"
        writer.close()
        return world.time - healed

    assert 1 < on_host(body) < 110  # It is sent again at 0.2, 0.6, 1.4, ... 102.2 s.


def test_a_sender_gives_up_in_the_end() -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        world.partition({"a"}, {"b"})
        writer.write(b"x")
        began = world.time
        with pytest.raises(OSError, match="timed out") as caught:
            await reader.read()
        assert caught.value.errno == errno.ETIMEDOUT
        assert GIVE_UP_S < world.time - began < 1.3 * GIVE_UP_S
        writer.close()

    on_host(body)


def test_connecting_into_a_partition_takes_as_long_as_linux_tries() -> None:
    async def body(world: World) -> None:
        world.partition({"a"}, {"b"})
        began = world.time
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("b", 80)
        assert world.time - began == pytest.approx(127, abs=0.1)
        world.later(2.5, world.heal)
        began = world.time
        _, writer = await asyncio.open_connection("b", 80)
        assert world.time - began == pytest.approx(3, abs=0.1)  # The second repetition of its SYN.
        writer.close()

    on_host(body)


def test_connections_can_be_reset() -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        assert world.reset("a", "b") == 1
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert await round_trip("b")
        await asyncio.sleep(0.1)
        assert world.reset("a", "c") == 0

    on_host(body)


def test_a_reader_that_does_not_read_blocks_the_writer_by_the_window() -> None:
    async def deaf() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(10)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            while await reader.read(100_000):
                pass
            writer.close()

        await (await asyncio.start_server(handle, port=80)).serve_forever()

    async def body(world: World) -> None:
        await world.start("deaf", deaf)
        reader, writer = await asyncio.open_connection("deaf", 80)
        await asyncio.sleep(1)
        writer.write(bytes(2 * WINDOW))
        assert writer.transport.get_write_buffer_size() == WINDOW
        began = world.time
        await writer.drain()
        assert world.time - began > 8
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    on_host(body)


class Collector(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.seen.append(int(data))


def datagrams(count: int, **conditions: Any) -> list[int]:
    """Send numbered datagrams from `a` to `d`, and return what arrives."""
    collector: list[Collector] = []

    async def collect() -> None:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(Collector, ("0.0.0.0", 53))
        collector.append(protocol)
        await asyncio.sleep(1000)

    async def body(world: World) -> None:
        await world.start("d", collect)
        await asyncio.sleep(0.01)
        world.link("a", "d", **conditions)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("d", 53)
        )
        for number in range(count):
            transport.sendto(b"%d" % number)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        transport.close()

    on_host(body)
    return collector[0].seen


def test_datagrams_are_lost_doubled_and_reordered_only_as_told() -> None:
    assert datagrams(100, latency_s=(0.0001, 0.0001)) == list(range(100))
    assert 40 < len(datagrams(100, latency_s=(0.0001, 0.0001), loss=0.4)) < 80
    doubled = datagrams(100, latency_s=(0.0001, 0.0001), duplicate=0.5)
    assert 120 < len(doubled) < 180
    assert set(doubled) == set(range(100))
    reordered = datagrams(100, latency_s=(0.001, 0.1))
    assert reordered != sorted(reordered) == list(range(100))


def test_a_flood_of_datagrams_overflows_the_buffer_of_a_paused_host() -> None:
    async def body(world: World) -> int:
        collector: list[Collector] = []

        async def collect() -> None:
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                Collector, ("0.0.0.0", 53)
            )
            collector.append(protocol)
            await asyncio.sleep(1000)

        await world.start("d", collect)
        await asyncio.sleep(0.01)
        world.pause("d")
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("d", 53)
        )
        for number in range(2000):
            transport.sendto(b"%d" % number)
        await asyncio.sleep(1)
        world.resume("d")
        await asyncio.sleep(1)
        transport.close()
        return len(collector[0].seen)

    assert 500 < on_host(body) < 1000


def test_names_change_and_fail() -> None:
    async def body(world: World) -> None:
        world.network.dns["service"] = ("b",)
        _, writer = await asyncio.open_connection("service", 80)
        assert writer.get_extra_info("peername")[0] == world.host("b").stack.address
        writer.close()
        world.network.dns["service"] = ("c",)
        _, writer = await asyncio.open_connection("service", 80)
        assert writer.get_extra_info("peername")[0] == world.host("c").stack.address
        writer.close()
        world.kill("b")
        world.network.dns["service"] = ("b", "c")
        _, writer = await asyncio.open_connection("service", 80)
        assert writer.get_extra_info("peername")[0] == world.host("c").stack.address
        writer.close()
        world.network.without_dns.add("a")
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            await asyncio.open_connection("service", 80)
        assert world.time > 5
        assert socket.gethostbyname("b") == world.host("b").stack.address

    on_host(body)


def test_a_slow_host_takes_its_time_for_each_step() -> None:
    async def body(world: World) -> None:
        (quick,) = await measure(1)
        world.slow("b", 0.1)
        (slow,) = await measure(1)
        assert slow > quick + 0.1
        world.slow("b", 0.0)
        (again,) = await measure(1)
        assert again < 0.01

    on_host(body)


def test_acknowledgements_that_are_cut_off_give_no_room() -> None:
    async def body(world: World) -> None:
        reader, writer = await asyncio.open_connection("b", 80)
        cuts = world.block({"b"}, {"a"})
        writer.write(bytes(3 * WINDOW))
        await asyncio.sleep(10)  # What was sent is read there, but nobody here hears of it.
        assert writer.transport.get_write_buffer_size() == 2 * WINDOW
        world.heal(cuts)
        assert len(await reader.readexactly(3 * WINDOW)) == 3 * WINDOW
        writer.close()

    on_host(body)


def test_connections_beyond_the_backlog_wait_for_a_free_place() -> None:
    async def body(world: World) -> None:
        async def busy() -> None:
            await asyncio.start_server(lambda reader, writer: writer.close(), port=80, backlog=2)
            await asyncio.sleep(1000)

        await world.start("busy", busy)
        await asyncio.sleep(0.01)
        world.pause("busy")
        tasks = []
        for _ in range(3):
            tasks.append(asyncio.create_task(asyncio.open_connection("busy", 80)))
            await asyncio.sleep(0.1)
        assert [task.done() for task in tasks] == [True, True, False]
        world.resume("busy")
        await asyncio.sleep(2)
        assert tasks[2].done()
        for task in tasks:
            (await task)[1].close()

    on_host(body)


@pytest.mark.parametrize("after_s", [0.0, 0.00005, 0.0011, 0.0015])
def test_a_connect_that_is_cancelled_leaves_no_connection_at_either_end(after_s: float) -> None:
    async def body(world: World) -> None:
        world.link("a", "b", latency_s=(0.001, 0.001))
        address = world.host("b").stack.address
        task = asyncio.create_task(asyncio.open_connection(address, 80))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.sleep(1)
        assert task.cancelled()
        assert not world.host("a").stack.endpoints
        assert not world.host("b").stack.endpoints

    on_host(body)


def test_a_datagram_that_is_sent_into_a_cut_is_lost_even_if_the_cut_is_mended_before_it_would_arrive() -> (
    None
):
    link = Link("a", "b", Conditions(latency_s=(1.0, 1.0)), Tape(1).stream("link"))
    assert link.datagram(5.0, 100) == (6.0,)
    link.judge([Cut(frozenset("a"), frozenset("b"))])
    assert link.datagram(5.0, 100) == ()


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.5}, {"latency_s": (2, 1)}, {"tail_s": (-1, 1)}, {"bytes_per_s": 0}, {"tail": -0.1}]
)
def test_conditions_that_cannot_be_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        Conditions(**wrong)
