"""Messages of the control socket: JSON-RPC 2.0, one message per line. Names are those of the protocol; unknown members are ignored."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

Json = Mapping[str, Any]

REQUEST_BYTES_MAX = 65_536
"""The longest line of a request."""

ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""The longest line that soramoded sends."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The node's right to serve the channel; only in a cluster."""

    token: int
    epoch: int
    valid_for_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """The client is admitted."""

    channel_id: str
    connection_id: str
    session_id: str | None
    """The session; `None` if soramoded could not be asked, and `when_unreachable` is "admit"."""
    created: bool
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """The client is rejected."""

    reason: str
    """A reason of the protocol; or an error in its place: `Unreachable`, `StorageUnavailable`, `ClusterUnavailable`."""
    mode: str | None = None
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """The client belongs on another node."""

    node_name: str
    location: str | None = None


Decision = Offer | Reject | Redirect


@dataclass(frozen=True, slots=True)
class Disconnected:
    """Result of `Disconnect`."""

    found: bool
    channel_id: str | None = None
    session_id: str | None = None
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Reported:
    """Result of `Report`."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class ReportedConnection:
    """Connection that is live on the SFU."""

    channel_id: str
    connection_id: str
    client_id: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Session to end: disconnect its clients. It may come again until they have left."""

    channel_id: str
    session_id: str
    plan_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """Sessions to end at once, because the node may no longer serve them: of one channel, or of all."""

    id: int
    channel_id: str | None = None


@dataclass(frozen=True, slots=True)
class Announce:
    """Announcement to pass on to the clients of a session. One with the same `id` may come twice."""

    channel_id: str
    session_id: str
    kind: str
    id: str
    text: str | None = None
    sessions_end_at: str | None = None
    data: Any = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Event of the log. `members` are those of its type."""

    seq: int
    id: str
    type: str
    timestamp: str
    node_name: str
    members: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that are no longer kept, both ends included."""

    first: int
    last: int


class SoramodeError(Exception):
    """Error that soramoded answered, or why there is no answer."""

    def __init__(self, error_type: str, message: str, code: int = 0, data: Json | None = None) -> None:
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message
        self.code = code
        self.data: Json = data or {}


@dataclass(frozen=True, slots=True)
class Call:
    """Request; or a notification, without an `id`."""

    id: int | str | None
    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to the request of this id; an error without an id concerns the whole connection."""

    id: int | str | None
    result: Json | None
    error: SoramodeError | None


T = TypeVar("T")


def read_object(kind: type[T], members: Json) -> T:
    """Reads a dataclass from the members of these names."""
    names = (it.name for it in fields(kind))  # type: ignore[arg-type]
    return kind(**{name: members[name] for name in names if name in members})


def read_message(line: bytes | str) -> Call | Answer:
    """Reads a line of the protocol."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message: no object")
    if "method" in message:
        return Call(message.get("id"), message["method"], message.get("params") or {})
    if "error" in message:
        error = message["error"]
        data = error.get("data") or {}
        problem = SoramodeError(data.get("error_type", "Unknown"), error["message"], error["code"], data)
        return Answer(message.get("id"), None, problem)
    return Answer(message["id"], message["result"], None)


def read_decision(result: Json) -> Decision:
    """Reads the result of `Connect`."""
    match result["type"]:
        case "offer":
            claim = result.get("claim")
            return read_object(Offer, {**result, "claim": claim and read_object(Claim, claim)})
        case "reject":
            return read_object(Reject, result)
        case "redirect":
            return read_object(Redirect, result)
    raise ValueError(f"unknown decision {result['type']!r}")


def read_event(params: Json) -> Event:
    """Reads the params of `Event`."""
    common = ("seq", "id", "type", "timestamp", "node_name")
    members = {name: value for name, value in params.items() if name not in common}
    return Event(**{name: params[name] for name in common}, members=members)


def read_gap(params: Json) -> Gap:
    """Reads the params of `Gap`."""
    return Gap(params["from"], params["to"])


def write_request(id: int | None, method: str, params: Json) -> bytes:
    """Writes a request as a line. Members that are `None` are left out."""
    present = {name: value for name, value in params.items() if value is not None}
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method, "params": present}
    if id is None:
        del message["id"]
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def default_path() -> str:
    """Returns the path of the control socket: the first of the protocol's that exists."""
    if path := os.environ.get("SORAMODE_SOCKET"):
        return path
    system = "/run/soramode/soramode.sock"
    if os.getuid() == 0 or os.path.exists(system):
        return system
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{folder}/soramode/soramode.sock"
    return f"/tmp/soramode-{os.getuid()}/soramode.sock"
