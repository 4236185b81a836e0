"""The client against a real soramoded, over restarts and kills."""

import asyncio
import os
import random
import signal
import unittest
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from soramode import Announce, End, Event, Offer, Reject, ReportedConnection, Soramode, SoramodeError, follow

from .daemon import Daemon

PATIENCE = 60.0


class Server:
    """A signalling server: its connections, and its client of soramoded."""

    def __init__(self, path: str, **options: Any) -> None:
        self.connections: dict[str, str] = {}
        options.setdefault("when_unreachable", "reject")
        options.setdefault("timeout", PATIENCE)
        self.soramode = Soramode(report=self.report, path=path, **options)

    def report(self) -> list[ReportedConnection]:
        return [ReportedConnection(channel, connection) for connection, channel in self.connections.items()]

    async def join(self, channel: str, connection: str) -> Offer | None:
        decision = await self.soramode.connect(channel, connection)
        if isinstance(decision, Offer):
            self.connections[connection] = channel
            return decision
        return None

    async def leave(self, connection: str) -> None:
        del self.connections[connection]
        await self.soramode.disconnect(connection)

    async def status(self) -> Any:
        return await self.soramode.call("GetStatus", {})

    async def known(self) -> dict[str, str]:
        """Returns the connections that soramoded has."""
        known: dict[str, str] = {}
        cursor = None
        while True:
            page = await self.soramode.call("ListConnections", {"limit": 1000, "cursor": cursor})
            known.update((row["connection_id"], row["channel_id"]) for row in page["connections"])
            cursor = page.get("cursor")
            if cursor is None:
                return known


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Asks until it is so: each question is answered by soramoded."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            pass


@unittest.skipUnless(os.environ.get("SORAMODED"), "SORAMODED names no soramoded")
class WithSoramoded(unittest.IsolatedAsyncioTestCase):
    async def test_decisions_are_obeyed(self) -> None:
        with Daemon() as daemon:
            server = Server(daemon.socket)
            async with server.soramode as soramode:
                first = await server.join("spam", "1")
                assert first is not None and first.session_id is not None
                self.assertEqual((first.channel_id, first.connection_id, first.created), ("spam", "1", True))
                generated = await soramode.connect("spam", client_id="alice")
                assert isinstance(generated, Offer)
                self.assertFalse(generated.created)
                with self.assertRaises(SoramodeError) as raised:
                    await soramode.connect("egg", "1")
                self.assertEqual((raised.exception.error_type, raised.exception.data["channel_id"]), ("ConnectionIdInUse", "spam"))
                with self.assertRaises(SoramodeError) as raised:
                    await soramode.connect("x" * 256, "2")
                self.assertEqual(raised.exception.data["field"], "channel_id")
                await soramode.call("ChangeMode", {"mode": "block_new_session"})
                self.assertEqual(await soramode.connect("egg", "2"), Reject("BLOCK-NEW-SESSION", "block_new_session"))
                gone = await soramode.disconnect("1")
                assert gone is not None
                self.assertEqual((gone.found, gone.channel_id, gone.session_id), (True, "spam", first.session_id))

    async def test_kills_and_restarts_lose_nothing(self) -> None:
        seed = int(os.environ.get("SORAMODE_SEED", "1"))
        for flags in ((), ("--ephemeral",)):
            with self.subTest(flags=flags), Daemon(*flags) as daemon:
                server, chance = Server(daemon.socket), random.Random(seed)
                async with server.soramode:
                    for round in range(6):
                        churn = asyncio.gather(*(self.churn(server, f"{round}-{worker}", chance) for worker in range(8)))
                        await asyncio.sleep(0)
                        daemon.kill_and_start() if round % 2 else daemon.restart()
                        await churn
                        self.assertEqual(await server.known(), server.connections)
                    status = await server.status()
                    self.assertEqual((status["connections"], status["sessions_complete"]), (len(server.connections), True))

    async def churn(self, server: Server, worker: str, chance: random.Random) -> None:
        for number in range(20):
            connection = f"{worker}-{number}"
            self.assertIsNotNone(await server.join(f"channel-{chance.randrange(10)}", connection))
            if chance.random() < 0.5:
                await server.leave(connection)

    async def test_a_long_report_takes_several_requests(self) -> None:
        with Daemon("--ephemeral") as daemon:
            server = Server(daemon.socket)
            server.connections = {f"{number:05}-{'é' * 100}": "spam" for number in range(3000)}
            async with server.soramode:
                self.assertEqual(await server.known(), server.connections)
                daemon.kill_and_start()
                self.assertEqual(await server.known(), server.connections)

    async def test_without_soramoded_one_word_decides(self) -> None:
        daemon = Daemon()
        closed = Server(daemon.socket, timeout=0.2)
        opened = Server(daemon.socket, timeout=0.2, when_unreachable="admit")
        async with closed.soramode, opened.soramode:
            self.assertIsNone(await closed.join("spam", "1"))
            self.assertEqual(await closed.soramode.connect("spam", "1"), Reject("Unreachable"))
            admitted = await opened.join("spam", "2")
            assert admitted is not None
            self.assertEqual((admitted.session_id, admitted.created), (None, False))
            self.assertIsNone(await opened.soramode.disconnect("3"))
        with self.assertRaises(ValueError):
            Server(daemon.socket, when_unreachable="maybe")
        with daemon:
            # It comes back, and hears of the client that was admitted without it.
            server = Server(daemon.socket)
            server.connections = opened.connections
            async with server.soramode:
                self.assertEqual(await server.known(), {"2": "spam"})

    async def test_a_soramoded_that_hangs_is_given_up_and_taken_up_again(self) -> None:
        with Daemon() as daemon:
            server = Server(daemon.socket)
            async with server.soramode as soramode:
                await server.join("spam", "1")
                daemon.signal(signal.SIGSTOP)
                soramode._timeout = 0.3
                decisions = await asyncio.gather(*(soramode.connect("spam", f"s-{number}") for number in range(400)))
                self.assertEqual(set(decisions), {Reject("Unreachable")})
                self.assertFalse(soramode.is_connected)
                daemon.signal(signal.SIGCONT)
                soramode._timeout = PATIENCE
                soramode._away_since = asyncio.get_running_loop().time()

                # Some of them were admitted after all; the report ends them.
                async def is_repaired() -> bool:
                    return await server.known() == server.connections

                await until(is_repaired)

    async def test_a_cancelled_question_leaves_no_connection(self) -> None:
        with Daemon() as daemon:
            server = Server(daemon.socket)
            async with server.soramode as soramode:
                await server.join("spam", "1")
                asked = asyncio.create_task(soramode.connect("spam", "2"))
                await asyncio.sleep(0)
                asked.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await asked
                self.assertEqual(await server.known(), server.connections)

    async def test_sessions_are_ended_and_announced_to_also_after_a_restart(self) -> None:
        with Daemon() as daemon:
            announced: asyncio.Queue[Announce] = asyncio.Queue()

            async def on_end(end: End) -> None:
                for connection in [it for it, channel in server.connections.items() if channel == end.channel_id]:
                    await server.leave(connection)

            server = Server(daemon.socket, on_end=on_end, on_announce=announced.put)
            async with server.soramode as soramode:
                for round in range(2):
                    await server.join("spam", f"a-{round}")
                    await server.join("egg", f"b-{round}")
                    self.assertEqual((await server.status())["end_subscribers"], 1)
                    said = await soramode.call("Announce", {"text": "soon", "channel_id": "spam", "data": {"level": round}})
                    announcement = await asyncio.wait_for(announced.get(), PATIENCE)
                    self.assertEqual((announcement.id, announcement.channel_id, announcement.text), (said["id"], "spam", "soon"))
                    self.assertEqual((announcement.kind, announcement.data), ("maintenance", {"level": round}))
                    await soramode.call("ChangeMode", {"mode": "block_new_connection"})
                    ended = await soramode.call("End", {"all": True})
                    self.assertEqual((ended["sessions"], ended["via"]), (2, "subscribers"))
                    waited = await soramode.call("Wait", {"for": "drained", "timeout_seconds": PATIENCE})
                    self.assertEqual((waited["outcome"], server.connections), ("reached", {}))
                    await soramode.call("ChangeMode", {"mode": "normal"})
                    daemon.kill_and_start()

    async def test_the_example_of_the_readme_gates_clients(self) -> None:
        readme = (Path(__file__).parents[1] / "README.md").read_text()
        example: dict[str, Any] = {}
        exec(readme.split("```python\n")[1].split("```")[0], example)
        said: list[str] = []

        class Client:
            async def admit(self, session_id: str) -> None:
                said.append("admit")

            async def reject(self, reason: str) -> None:
                said.append(reason)

        async def accept() -> AsyncIterator[tuple[str, str, Client]]:
            yield ("spam", "1", Client())
            operator = Server(daemon.socket)
            operator.connections = example["connections"]
            async with operator.soramode as soramode:
                await soramode.call("ChangeMode", {"mode": "block_new_session"})
            yield ("egg", "2", Client())
            yield ("spam", "3", Client())

        with Daemon() as daemon, patch.dict(os.environ, {"SORAMODE_SOCKET": daemon.socket}):
            await example["serve"](accept())
        self.assertEqual(said, ["admit", "BLOCK-NEW-SESSION", "admit"])
        self.assertEqual(example["connections"], {"1": "spam", "3": "spam"})

    async def test_events_come_without_a_gap_over_kills(self) -> None:
        with Daemon() as daemon:
            server = Server(daemon.socket)
            async with server.soramode:
                await server.join("spam", "1")
                events = follow(["session.*"], path=daemon.socket, start=1)
                seen = []
                for round in range(3):
                    event = await asyncio.wait_for(anext(events), PATIENCE)
                    assert isinstance(event, Event)
                    seen.append((event.type, event.members["channel_id"]))
                    daemon.kill_and_start()
                    await server.join(f"egg-{round}", f"e-{round}")
                self.assertEqual(seen, [("session.created", name) for name in ("spam", "egg-0", "egg-1")])
                await events.aclose()


if __name__ == "__main__":
    unittest.main()
