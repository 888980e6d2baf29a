"""A program with a global variable, for the test that each host has its own."""

from __future__ import annotations

import asyncio

visits: list[str] = []


async def main(name: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import private_program

        private_program.visits.append(name)
        writer.write(repr(visits).encode())
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 80)
    await server.serve_forever()
