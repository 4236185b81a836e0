"""The types of the library are those of the description of the protocol."""

import json
import unittest
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from soramode.wire import (
    Announce,
    Claim,
    Disconnected,
    End,
    Event,
    Fence,
    Json,
    Offer,
    Redirect,
    Reject,
    Reported,
    ReportedConnection,
)

DESCRIPTION = Path(__file__).parents[4] / "man" / "openrpc.json"
SCHEMAS: Json = json.loads(DESCRIPTION.read_text())["components"]["schemas"]

TYPES = {"integer": "int", "string": "str", "boolean": "bool", "object": "Claim", None: "Any"}


def resolve(schema: Json) -> Json:
    """Returns the schema that a reference leads to."""
    if "allOf" in schema:
        schema = schema["allOf"][0]
    if "$ref" in schema:
        return resolve(SCHEMAS[schema["$ref"].rsplit("/", 1)[1]])
    return schema


def described(schema: Json) -> dict[str, tuple[str, bool]]:
    """Returns the type of each member, and whether it is always there."""
    required = schema["required"]
    return {
        name: (TYPES[resolve(member).get("type")], name in required)
        for name, member in schema["properties"].items()
        if name != "type"
    }


def declared(kind: type[Any]) -> dict[str, tuple[str, bool]]:
    """Returns the type of each field, and whether it has no default."""
    types = {it.name: getattr(it.type, "__name__", str(it.type)) for it in fields(kind)}
    plain = {name: text.split(" | ")[0].rsplit(".", 1)[-1] for name, text in types.items()}
    return {
        it.name: (plain[it.name], it.default is MISSING and it.default_factory is MISSING)
        for it in fields(kind)
    }


class Types(unittest.TestCase):
    def test_types_are_those_of_the_description(self) -> None:
        decisions = {it["properties"]["type"]["const"]: it for it in SCHEMAS["Decision"]["oneOf"]}
        for kind, schema in (
            (Offer, decisions["offer"]),
            (Redirect, decisions["redirect"]),
            (Claim, SCHEMAS["OfferedClaim"]),
            (Disconnected, SCHEMAS["Disconnected"]),
            (Reported, SCHEMAS["Reported"]),
            (ReportedConnection, SCHEMAS["ReportedConnection"]),
            (End, SCHEMAS["EndSession"]),
            (Fence, SCHEMAS["Fence"]),
            (Announce, SCHEMAS["AnnounceSession"]),
        ):
            with self.subTest(kind):
                self.assertEqual(declared(kind), described(schema))

    def test_a_reject_may_lack_the_mode(self) -> None:
        """soramoded always names it; a decision that soramoded did not make has none."""
        reject = next(it for it in SCHEMAS["Decision"]["oneOf"] if it["properties"]["type"]["const"] == "reject")
        self.assertEqual(declared(Reject), {**described(reject), "mode": ("str", False)})

    def test_an_event_has_the_common_members(self) -> None:
        event = declared(Event)
        self.assertEqual(event.pop("members"), ("Mapping", False))
        self.assertEqual(event, {**described(SCHEMAS["Event"]), "type": ("str", True)})
