"""The client against a soramoded that misbehaves, and the limits of its queues."""

import asyncio
import json
import tempfile
import unittest
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

from soramode import End, Event, Fence, Offer, Reject, Soramode, SoramodeError
from soramode import events
from soramode.client import IN_FLIGHT_MAX, NOTIFICATIONS_MAX, WAITING_MAX
from soramode.wire import ANSWER_BYTES_MAX, write_request

PATIENCE = 60.0

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Request = dict[str, Any]


class Fake:
    """A soramoded that answers every request, with an empty result if the test gives no other, and then acts as the test says."""

    def __init__(
        self,
        act: Callable[[Request, Client], Awaitable[None]],
        answer: Callable[[Request], Request | None] = lambda _: {"result": {}},
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.socket = f"{self.folder.name}/soramode.sock"
        self.act = act
        self.answer = answer
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
                if "id" in request and (answer := self.answer(request)) is not None:
                    writer.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode() + b"\n")
                await self.act(request, (reader, writer))
        except ConnectionError:
            pass
        finally:
            writer.close()


def client(fake: Fake, **options: Any) -> Soramode:
    return Soramode(**{"report": None, "path": fake.socket, "when_unreachable": "reject", "timeout": PATIENCE, **options})


async def no_end(end: End) -> None:
    raise AssertionError(end)


def params_of(requests: list[Request], method: str) -> list[Any]:
    return [request["params"] for request in requests if request["method"] == method]


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

    async def test_a_fence_does_not_wait_for_the_handler_of_another_notification(self) -> None:
        acknowledged = asyncio.Event()

        async def act(request: Request, to: Client) -> None:
            if request["method"] == "Subscribe":
                to[1].write(write_request(None, "End", {"channel_id": "spam", "session_id": "a"}))
                to[1].write(write_request(None, "Fence", {"id": 3}))
            if request["method"] == "Acknowledge":
                acknowledged.set()

        async def on_end(end: End) -> None:
            await asyncio.Event().wait()

        async def on_fence(fence: Fence) -> None:
            pass

        async with Fake(act) as fake, client(fake, on_end=on_end, on_fence=on_fence):
            await asyncio.wait_for(acknowledged.wait(), PATIENCE)

    async def test_events_go_on_after_a_line_that_is_cut_or_too_long(self) -> None:
        event = write_request(None, "Event", {"seq": 1, "id": "a", "type": "b", "timestamp": "c", "node_name": "d"})
        for method in ("GetInfo", "Subscribe"):
            for broken in (event[:20], b"x" * (ANSWER_BYTES_MAX + 1)):
                with self.subTest(method=method, broken=broken[:20]), patch.object(events, "RETRY_SECONDS", 0.0):

                    async def act(request: Request, to: Client) -> None:
                        if fake.connections == 1 and request["method"] == method:
                            to[1].write(broken)
                            await to[1].drain()
                            to[1].close()
                        elif request["method"] == "Subscribe":
                            to[1].write(event)

                    def answer(request: Request) -> Request | None:
                        is_broken = fake.connections == 1 and request["method"] == method == "GetInfo"
                        return None if is_broken else {"result": {"log_id": "a", "next_seq": 1}}

                    async with asyncio.timeout(PATIENCE), Fake(act, answer) as fake:
                        followed = events.follow(path=fake.socket)
                        self.assertEqual(await anext(followed), Event(1, "a", "b", "c", "d"))
                        await followed.aclose()

    async def test_events_go_on_after_the_log_lost_some(self) -> None:
        asked: list[Any] = []

        def answer(request: Request) -> Request | None:
            if request["method"] == "GetInfo":
                return {"result": {"log_id": "a"}}
            asked.append(request["params"]["from"])
            if asked[-1] == 9:
                return {"error": {"code": -32602, "message": "got 9", "data": {"error_type": "InvalidParams", "field": "from"}}}
            return {"result": {"next_seq": 3}}

        async def act(request: Request, to: Client) -> None:
            if request["method"] == "Subscribe" and asked[-1] != 9:
                seq = 8 if len(asked) == 1 else 3
                to[1].write(write_request(None, "Event", {"seq": seq, "id": "a", "type": "b", "timestamp": "c", "node_name": "d"}))
                if len(asked) == 1:
                    to[1].close()

        async with asyncio.timeout(PATIENCE), Fake(act, answer) as fake:
            with patch.object(events, "RETRY_SECONDS", 0.0):
                followed = events.follow(path=fake.socket, start=8)
                for seq in (8, 3):
                    self.assertEqual(await anext(followed), Event(seq, "a", "b", "c", "d"))
                await followed.aclose()
            self.assertEqual(asked, [8, 9, "now"])
            with self.assertRaises(SoramodeError):
                await anext(events.follow(path=fake.socket, start=9))

    async def test_a_client_that_is_closed_admits_nobody(self) -> None:
        async def act(request: Request, to: Client) -> None:
            sent.set()

        sent = asyncio.Event()
        async with asyncio.timeout(PATIENCE / 2), Fake(act, lambda _: None) as fake:
            async with client(fake, when_unreachable="admit") as soramode:
                question = asyncio.create_task(soramode.connect("spam", "1"))
                await sent.wait()
            for decision in (await question, await soramode.connect("spam", "2")):
                self.assertEqual(decision, Reject("Unreachable"))

    async def test_requests_that_wait_have_a_limit(self) -> None:
        soramode = Soramode(report=None, path="/nonexistent", when_unreachable="reject", timeout=PATIENCE)
        async with asyncio.timeout(PATIENCE / 2), soramode:
            waiting = [asyncio.create_task(soramode.connect("spam", str(number))) for number in range(IN_FLIGHT_MAX + WAITING_MAX)]
            await asyncio.sleep(0)
            self.assertEqual(await soramode.connect("spam", "more"), Reject("Unreachable"))
        self.assertEqual(set(await asyncio.gather(*waiting)), {Reject("Unreachable")})

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

    async def test_a_report_is_not_broken_off_by_requests_that_do_not_wait(self) -> None:
        began, may_answer, is_informed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        requests: list[Request] = []

        async def act(request: Request, to: Client) -> None:
            requests.append(request)
            if request["method"] == "Report" and "complete" in request["params"]:
                began.set()
                await may_answer.wait()
                to[1].write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {}}).encode() + b"\n")
            if request["method"] == "GetInfo":
                is_informed.set()

        def answer(request: Request) -> Request | None:
            return None if request["method"] == "Report" else {"result": {}}

        async with asyncio.timeout(PATIENCE), Fake(act, answer) as fake:
            async with client(fake, report=list, when_unreachable="admit") as soramode:
                await began.wait()
                # soramoded was away for long.
                soramode._away_since = asyncio.get_running_loop().time() - PATIENCE
                for number in range(100):
                    self.assertEqual(await soramode.connect("spam", str(number), client_id="alice"), Offer("spam", str(number), None, False))
                self.assertIsNone(await soramode.disconnect("7"))
                may_answer.set()
                while not soramode.is_connected:
                    await asyncio.sleep(0)
                await soramode.call("GetInfo", {})
                await is_informed.wait()
            self.assertEqual(fake.connections, 1)
        # soramoded learns of the clients that its report could not have.
        rows = [{"channel_id": "spam", "connection_id": str(number), "client_id": "alice"} for number in range(100)]
        self.assertEqual(params_of(requests, "Report"), [{"connections": [], "complete": True}, *({"connections": [row]} for row in rows)])
        self.assertEqual(params_of(requests, "Disconnect"), [{"connection_id": "7"}])

    async def test_a_request_that_was_not_sent_does_not_give_the_connection_up(self) -> None:
        held: list[Request] = []
        is_full, may_answer = asyncio.Event(), asyncio.Event()

        async def act(request: Request, to: Client) -> None:
            if request["method"] == "Connect":
                held.append(request)
            if len(held) == IN_FLIGHT_MAX:
                is_full.set()
                await may_answer.wait()
                for late in held:
                    offer = {"type": "offer", "channel_id": "spam", "connection_id": "1", "session_id": "a", "created": False}
                    to[1].write(json.dumps({"jsonrpc": "2.0", "id": late["id"], "result": offer}).encode() + b"\n")
                held.clear()

        def answer(request: Request) -> Request | None:
            return None if request["method"] == "Connect" else {"result": {}}

        async with asyncio.timeout(PATIENCE), Fake(act, answer) as fake, client(fake) as soramode:
            await soramode.call("GetInfo", {})
            sent = [asyncio.create_task(soramode.connect("spam", str(number))) for number in range(IN_FLIGHT_MAX)]
            await is_full.wait()
            soramode._timeout = 0.05
            self.assertEqual(await soramode.connect("spam", "late"), Reject("Unreachable"))
            self.assertTrue(soramode.is_connected)
            may_answer.set()
            self.assertEqual({type(decision) for decision in await asyncio.gather(*sent)}, {Offer})
            self.assertEqual(fake.connections, 1)

    async def test_a_soramoded_that_is_slow_is_not_given_up(self) -> None:
        for when_unreachable in ("admit", "reject"):
            with self.subTest(when_unreachable=when_unreachable):
                await self.ask_a_slow_soramoded(when_unreachable)

    async def ask_a_slow_soramoded(self, when_unreachable: str) -> None:
        requests: list[Request] = []

        async def act(request: Request, to: Client) -> None:
            requests.append(request)

        def answer(request: Request) -> Request | None:
            return None if request["method"] == "Connect" else {"result": {}}

        async with asyncio.timeout(PATIENCE), Fake(act, answer) as fake, client(fake, when_unreachable=when_unreachable) as soramode:
            await soramode.call("GetInfo", {})
            soramode._timeout = 1.0
            question = asyncio.create_task(soramode.connect("spam", "1"))
            while not question.done():
                # It answers others meanwhile.
                await soramode.call("GetInfo", {})
            self.assertEqual(type(await question), Offer if when_unreachable == "admit" else Reject)
            await soramode.call("GetInfo", {})
            self.assertEqual((soramode.is_connected, fake.connections), (True, 1))
        # What was decided without it is said behind the question.
        reports, gone = params_of(requests, "Report"), params_of(requests, "Disconnect")
        row = {"channel_id": "spam", "connection_id": "1"}
        self.assertEqual((reports, gone), ([{"connections": [row]}], []) if when_unreachable == "admit" else ([], [{"connection_id": "1"}]))

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
