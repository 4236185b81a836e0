"""Every golden line of the protocol is read, and nothing in it is lost."""

import json
import unittest
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from soramode.wire import (
    Announce,
    Answer,
    Call,
    Claim,
    Disconnected,
    End,
    Event,
    Fence,
    Gap,
    Json,
    Offer,
    Redirect,
    Reject,
    Reported,
    ReportedConnection,
    read_decision,
    read_event,
    read_gap,
    read_message,
    read_object,
    write_request,
)

LINES = Path(__file__).parents[3] / "tests" / "wire" / "v1"


def lines(name: str) -> Iterator[str]:
    yield from (LINES / f"{name}.jsonl").read_text().splitlines()


def members(value: Any) -> Any:
    """Returns the members of a dataclass without those that are absent on the wire."""
    if isinstance(value, dict):
        return {name: members(it) for name, it in value.items() if it is not None}
    return value


class GoldenLines(unittest.TestCase):
    def results(self, name: str) -> Iterator[Json]:
        for line in lines(name):
            message = read_message(line)
            if isinstance(message, Answer):
                assert message.result is not None
                yield message.result

    def test_every_line_is_read(self) -> None:
        names = sorted(path.stem for path in LINES.glob("*.jsonl"))
        self.assertIn("Connect", names)
        for name in names:
            for line in lines(name):
                with self.subTest(line):
                    if name == "events":
                        self.check_event(json.loads(line))
                        continue
                    message = read_message(line)
                    if isinstance(message, Answer):
                        self.assertEqual(message.error is not None, name == "errors")
                        self.assertEqual(message.result is not None, name != "errors")
                    elif name != "notifications":
                        self.assertEqual(message.method, name)

    def check_event(self, params: Json) -> None:
        event = read_event(params)
        self.assertIsInstance(event, Event)
        common = {name: value for name, value in asdict(event).items() if name != "members"}
        self.assertEqual({**common, **event.members}, params)

    def test_requests_are_written_as_the_lines_are(self) -> None:
        for name in ("Connect", "Disconnect", "Report", "Subscribe", "Acknowledge", "GetInfo"):
            for line in lines(name):
                message = read_message(line)
                if isinstance(message, Call):
                    assert isinstance(message.id, int)
                    written = write_request(message.id, message.method, message.params)
                    self.assertEqual(written.decode().rstrip("\n"), line)

    def test_decisions_have_all_members(self) -> None:
        kinds = set()
        for result in self.results("Connect"):
            decision = read_decision(result)
            kinds.add(type(decision).__name__.lower())
            self.assertEqual({"type": type(decision).__name__.lower(), **members(asdict(decision))}, result)
        self.assertEqual(kinds, {"offer", "reject", "redirect"})

    def test_other_results_have_all_members(self) -> None:
        for result in self.results("Disconnect"):
            self.assertEqual(members(asdict(read_object(Disconnected, result))), {"durable": True, **result})
        for result in self.results("Report"):
            self.assertEqual(asdict(read_object(Reported, result)), result)
        for line in lines("Report"):
            message = read_message(line)
            if isinstance(message, Call):
                for row in message.params["connections"]:
                    self.assertEqual(members(asdict(read_object(ReportedConnection, row))), row)

    def test_notifications_have_all_members(self) -> None:
        kinds: dict[str, type[Any]] = {"End": End, "Fence": Fence, "Announce": Announce}
        for line in lines("notifications"):
            message = read_message(line)
            assert isinstance(message, Call)
            if kind := kinds.get(message.method):
                read = read_object(kind, message.params)
                self.assertEqual({name: getattr(read, name) for name in message.params}, message.params)
            elif message.method == "Event":
                self.check_event(message.params)
            elif message.method == "Gap":
                self.assertEqual(read_gap(message.params), Gap(message.params["from"], message.params["to"]))
            else:
                self.assertEqual(message.method, "Progress")

    def test_each_member_of_a_type_occurs_on_the_wire(self) -> None:
        decisions = list(self.results("Connect"))
        calls = [message for name in ("Report", "notifications") for message in map(read_message, lines(name)) if isinstance(message, Call)]
        objects: dict[type[Any], list[Json]] = {
            Offer: [it for it in decisions if it["type"] == "offer"],
            Reject: [it for it in decisions if it["type"] == "reject"],
            Redirect: [it for it in decisions if it["type"] == "redirect"],
            Claim: [it["claim"] for it in decisions if "claim" in it],
            Disconnected: list(self.results("Disconnect")),
            Reported: list(self.results("Report")),
            ReportedConnection: [row for it in calls if it.method == "Report" for row in it.params["connections"]],
            **{kind: [it.params for it in calls if it.method == kind.__name__] for kind in (End, Fence, Announce)},
        }
        for kind, examples in objects.items():
            seen = {name for example in examples for name in example} - {"type"}
            self.assertEqual({it.name for it in fields(kind)}, seen, kind)

    def test_errors_have_their_type_and_members(self) -> None:
        for line in lines("errors"):
            message = read_message(line)
            assert isinstance(message, Answer) and message.error is not None
            written = json.loads(line)["error"]
            self.assertEqual(
                (message.error.code, message.error.message, message.error.error_type, message.error.data),
                (written["code"], written["message"], written["data"]["error_type"], written["data"]),
            )

    def test_unknown_members_are_ignored(self) -> None:
        end = read_object(End, {"channel_id": "a", "session_id": "b", "more": [1]})
        self.assertEqual(end, End("a", "b"))
