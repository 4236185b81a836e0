"""The client against a soramoded that misbehaves, and the limits of its queues."""

import asyncio
import json
import tempfile
import unittest
from collections.abc import Awaitable, Callable
from typing import Any

from soramode import End, Fence, Soramode
from soramode.client import NOTIFICATIONS_MAX
from soramode.wire import ANSWER_BYTES_MAX, write_request

PATIENCE = 60.0

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Request = dict[str, Any]


class Fake:
    """A soramoded that answers every request with an empty result, and then acts as the test says."""

    def __init__(self, act: Callable[[Request, Client], Awaitable[None]]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.socket = f"{self.folder.name}/soramode.sock"
        self.act = act
        self.connections = 0

    async def __aenter__(self) -> "Fake":
        self.listener = await asyncio.start_unix_server(self.serve, self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        await self.listener.wait_closed()
        self.folder.cleanup()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if "id" in request:
                    writer.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {}}).encode() + b"\n")
                await self.act(request, (reader, writer))
        except ConnectionError:
            pass
        finally:
            writer.close()


def client(fake: Fake, **options: Any) -> Soramode:
    return Soramode(report=None, path=fake.socket, when_unreachable="reject", timeout=PATIENCE, **options)


async def no_end(end: End) -> None:
    raise AssertionError(end)


class WithAFake(unittest.IsolatedAsyncioTestCase):
    async def test_a_fence_is_acknowledged_when_its_handler_has_returned(self) -> None:
        acknowledged: asyncio.Queue[Any] = asyncio.Queue()
        handled: list[Fence] = []

        async def act(request: Request, to: Client) -> None:
            if request["method"] == "Acknowledge":
                await acknowledged.put((request["params"], list(handled)))
            if request["method"] == "Subscribe":
                for fence in ({"id": 3}, {"id": 4, "channel_id": "spam"}):
                    to[1].write(write_request(None, "Fence", fence))
                to[1].write(write_request(None, "Moonrise", {}))

        async def on_fence(fence: Fence) -> None:
            handled.append(fence)
            if fence.id == 3:
                raise RuntimeError("it failed, and comes again")

        async with Fake(act) as fake:
            with self.assertLogs("soramode", "ERROR"):
                async with client(fake, on_end=no_end, on_fence=on_fence):
                    params, before = await asyncio.wait_for(acknowledged.get(), PATIENCE)
        self.assertEqual((params, before), ({"id": 4}, [Fence(3), Fence(4, "spam")]))
        with self.assertRaises(ValueError):
            client(fake, on_fence=on_fence)

    async def test_notifications_that_wait_have_a_limit(self) -> None:
        may_go_on = asyncio.Event()
        handled: list[str] = []

        async def act(request: Request, to: Client) -> None:
            if request["method"] == "Subscribe":
                for number in range(NOTIFICATIONS_MAX + 2):
                    to[1].write(write_request(None, "End", {"channel_id": str(number), "session_id": "a"}))
                    await to[1].drain()

        async def on_end(end: End) -> None:
            await may_go_on.wait()
            handled.append(end.channel_id)

        async with Fake(act) as fake, client(fake, on_end=on_end) as soramode:
            with self.assertLogs("soramode", "WARNING") as logs:
                # Its answer comes after them.
                await soramode.call("GetInfo", {})
            self.assertIn("End was dropped", logs.output[0])
            kept = NOTIFICATIONS_MAX + 2 - len(logs.output)
            may_go_on.set()
            while len(handled) < kept:
                await asyncio.sleep(0)
            self.assertEqual((handled[0], kept), ("0", NOTIFICATIONS_MAX + 1))

    async def test_a_soramoded_that_does_not_read_is_given_up(self) -> None:
        async def act(request: Request, to: Client) -> None:
            if request["method"] == "Connect":
                await never.wait()

        never = asyncio.Event()
        async with Fake(act) as fake, client(fake) as soramode:
            await soramode.call("GetInfo", {})
            asked = 0
            while soramode.is_connected:
                question = asyncio.create_task(soramode.connect("spam", "x" * 255))
                await asyncio.sleep(0)
                question.cancel()
                await asyncio.gather(question, return_exceptions=True)
                asked += 1
            self.assertGreater(asked, 1000)
            never.set()

    async def test_a_line_that_is_too_long_ends_the_connection(self) -> None:
        async def act(request: Request, to: Client) -> None:
            if request["method"] == "GetInfo" and fake.connections == 1:
                to[1].write(b"x" * (ANSWER_BYTES_MAX + 1))
                await to[1].drain()
            if request["method"] == "GetInfo" and fake.connections == 2:
                again.set()

        again = asyncio.Event()
        async with Fake(act) as fake, client(fake) as soramode:
            await soramode.call("GetInfo", {})
            while soramode.is_connected:
                await asyncio.sleep(0)
            await soramode.call("GetInfo", {})
            await asyncio.wait_for(again.wait(), PATIENCE)


if __name__ == "__main__":
    unittest.main()
