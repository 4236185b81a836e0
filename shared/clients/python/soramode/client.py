"""A signalling server's connection to soramoded, which outlasts restarts of it."""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict
from types import TracebackType
from typing import Any, Literal, Self

from .wire import (
    ANSWER_BYTES_MAX,
    REQUEST_BYTES_MAX,
    Announce,
    Answer,
    Decision,
    Disconnected,
    End,
    Fence,
    Json,
    Offer,
    Reject,
    ReportedConnection,
    SoramodeError,
    default_path,
    read_decision,
    read_message,
    read_object,
    write_request,
)

LOG = logging.getLogger("soramode")

IN_FLIGHT_MAX = 256
"""Requests without an answer; further ones wait. soramoded reads no more of one client."""

WAITING_MAX = 4096
"""Requests that wait; further ones are decided without soramoded."""

NOTIFICATIONS_MAX = 65_536
"""Notifications that wait for their handler; further ones are dropped, with a warning."""

RETRY_SECONDS = (0.1, 1.0)
"""The shortest and the longest pause between attempts to connect."""

REJECTED = ("StorageUnavailable", "ClusterUnavailable")
"""Errors of `Connect` that reject the client."""

UNREACHABLE = "Unreachable"
"""Stands for the answer that does not come."""

UNSENT_BYTES_MAX = 1_048_576
"""Bytes that soramoded has not read; a connection with more is given up."""

REPORT_BYTES_MAX = REQUEST_BYTES_MAX - 200
"""Connections in one request of a report, in bytes."""

BEGIN_SECONDS = 30.0
"""How long soramoded may take for a report: after that time it counts the connections as ended."""

NO_EVENTS = "session.vanished"
"""A subscription names a type of event; this one is rare."""


class Soramode:
    """Asks soramoded for the admission of clients.

    `report` returns the connections that are live: every one that `connect` admitted and that has not left. It is called after each
    connection to soramoded, and every connection that it lacks ends. So record a connection when `connect` returns, before anything else is
    awaited. `None` if another process of this node reports the connections of all.

    `when_unreachable` decides while soramoded does not answer within `timeout` seconds: "admit" or "reject".

    `on_end` and `on_announce` are awaited one after another; `on_fence` does not wait for them. A `Fence` is acknowledged when its handler has
    returned.

    After the `async with` block every client is rejected.
    """

    def __init__(
        self,
        *,
        report: Callable[[], Iterable[ReportedConnection]] | None,
        when_unreachable: Literal["admit", "reject"],
        path: str | None = None,
        timeout: float = 5.0,
        on_end: Callable[[End], Awaitable[None]] | None = None,
        on_fence: Callable[[Fence], Awaitable[None]] | None = None,
        on_announce: Callable[[Announce], Awaitable[None]] | None = None,
    ) -> None:
        if when_unreachable not in ("admit", "reject"):
            raise ValueError('when_unreachable takes "admit" or "reject"')
        self._report = report
        self._admits = when_unreachable == "admit"
        self._path = path
        self._timeout = timeout
        if on_fence is not None and on_end is None:
            raise ValueError("on_fence takes on_end as well: soramoded sends both to the same clients")
        handlers: list[tuple[type, Callable[[Any], Awaitable[None]] | None]] = [(End, on_end), (Fence, on_fence), (Announce, on_announce)]
        self._handlers = {kind.__name__: (kind, handler) for kind, handler in handlers if handler is not None}
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()
        self._away_since: float | None = None
        self._read_at = 0.0
        self._has_warned = False
        self._pause = RETRY_SECONDS[0]
        self._last_id = 0
        self._pending: dict[int, asyncio.Future[Json]] = {}
        self._is_closed = False
        self._limits: set[asyncio.Timeout] = set()
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._left: set[str] = set()
        self._notifications: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(NOTIFICATIONS_MAX)
        self._fences: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(NOTIFICATIONS_MAX)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._away_since = asyncio.get_running_loop().time()
        work = (self._stay_connected(), self._handle(self._notifications), self._handle(self._fences))
        self._tasks = [asyncio.create_task(it) for it in work]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._is_closed = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0.0)

    @property
    def is_connected(self) -> bool:
        """True while soramoded has this client's report."""
        return self._ready.is_set()

    async def connect(self, channel_id: str, connection_id: str | None = None, *, client_id: str | None = None, hops: int = 0) -> Decision:
        """Asks for the admission of a client. If this call is cancelled, the client counts as left."""
        connection_id = connection_id or uuid.uuid4().hex
        params = {"channel_id": channel_id, "connection_id": connection_id, "client_id": client_id, "lifetime": "socket", "hops": hops}
        try:
            return read_decision(await self.call("Connect", params))
        except SoramodeError as error:
            if error.error_type in REJECTED:
                return Reject(error.error_type)
            if error.error_type != UNREACHABLE:
                raise
            if self._is_closed:
                return Reject(UNREACHABLE)
            self._warn_once(error)
            # soramoded learns of the decision from the next report; without a lost connection there is none.
            if self._admits:
                self._notify("Report", {"connections": [_row(ReportedConnection(channel_id, connection_id, client_id))]})
                return Offer(channel_id, connection_id, None, False)
            if self._ready.is_set():
                self._notify("Disconnect", {"connection_id": connection_id})
            return Reject(UNREACHABLE)
        except asyncio.CancelledError:
            self._notify("Disconnect", {"connection_id": connection_id})
            raise

    def _warn_once(self, problem: SoramodeError) -> None:
        """Logs the first of the decisions that are made without soramoded while it is away."""
        if not self._has_warned:
            self._has_warned = True
            LOG.warning("%s: clients are %s until it does", problem.message, "admitted" if self._admits else "rejected")

    async def disconnect(self, connection_id: str) -> Disconnected | None:
        """Reports that a client has left. `None` if soramoded does not answer: it learns of it later."""
        self._left.add(connection_id)
        try:
            return read_object(Disconnected, await self.call("Disconnect", {"connection_id": connection_id}))
        except SoramodeError as error:
            if error.error_type != UNREACHABLE:
                raise
            # A report that is under way may have the connection.
            self._notify("Disconnect", {"connection_id": connection_id})
            return None
        finally:
            self._left.discard(connection_id)

    async def call(self, method: str, params: Json) -> Json:
        """Sends a request, and returns its result. After a lost connection it is sent again: only for methods that may be repeated."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        # While soramoded is away for long, nothing waits for it.
        due = now + self._timeout if self._away_since is None else max(now, self._away_since + self._timeout)
        if self._is_closed or len(self._limits) >= IN_FLIGHT_MAX + WAITING_MAX:
            raise _unreachable(method)
        sent_on, sent_at = None, now
        limit = asyncio.timeout_at(due)
        self._limits.add(limit)
        try:
            async with limit, self._in_flight:
                while True:
                    await self._ready.wait()
                    if method == "Connect" and params["connection_id"] in self._left:
                        raise SoramodeError("NotFound", "the client left before it was admitted")
                    sent_on, sent_at = self._writer, loop.time()
                    with contextlib.suppress(ConnectionError):
                        return await self._ask(method, params)
        except TimeoutError:
            # A connection on which nothing comes is given up; one that is busy, or that is sending its report, is not.
            is_silent = loop.time() - max(sent_at, self._read_at) > self._timeout / 2
            if sent_on is not None and sent_on is self._writer and is_silent:
                self._lose_connection()
            raise _unreachable(method) from None
        finally:
            self._limits.discard(limit)

    async def _ask(self, method: str, params: Json) -> Json:
        self._last_id += 1
        id = self._last_id
        self._write(id, method, params)
        self._pending[id] = asyncio.get_running_loop().create_future()
        try:
            return await self._pending[id]
        finally:
            self._pending.pop(id, None)

    def _write(self, id: int | None, method: str, params: Json) -> None:
        if self._writer is None or self._writer.is_closing():
            self._lose_connection()
            raise ConnectionError("not connected to soramoded")
        self._writer.write(write_request(id, method, params))
        if self._ready.is_set() and self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._lose_connection()
            raise ConnectionError("soramoded does not read")

    def _notify(self, method: str, params: Json) -> None:
        """Sends a request that is not answered, if there is a connection."""
        with contextlib.suppress(ConnectionError):
            self._write(None, method, params)

    def _lose_connection(self) -> None:
        if self._ready.is_set():
            self._ready.clear()
            self._away_since = asyncio.get_running_loop().time()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionError("lost the connection to soramoded"))

    async def _stay_connected(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    reader, self._writer = await asyncio.open_unix_connection(self._path or default_path(), limit=ANSWER_BYTES_MAX)
                await self._serve(reader)
            except Exception as problem:
                LOG.debug("no connection to soramoded: %s", problem)
            finally:
                self._lose_connection()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, RETRY_SECONDS[1])

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        """Reads until the connection ends."""
        begin = asyncio.create_task(self._begin())
        try:
            while line := await reader.readline():
                self._read_at = asyncio.get_running_loop().time()
                self._take(line)
        finally:
            begin.cancel()

    async def _begin(self) -> None:
        """Reports and subscribes. The report is written as a whole before anything else: no connection in it can end in between."""
        try:
            requests = [("Report", part) for part in self._report_parts()]
            if self._handlers:
                wanted = {"ends": "End" in self._handlers, "announcements": "Announce" in self._handlers}
                requests.append(("Subscribe", {"types": [NO_EVENTS], **wanted}))
            async with asyncio.timeout(BEGIN_SECONDS):
                await asyncio.gather(*(self._ask(method, params) for method, params in requests))
            self._ready.set()
            self._away_since = None
            self._pause = RETRY_SECONDS[0]
            if self._has_warned:
                self._has_warned = False
                LOG.info("soramoded answers again")
        except Exception as problem:
            LOG.error("cannot report to soramoded: %s", problem)
            self._lose_connection()

    def _report_parts(self) -> Iterator[Json]:
        if self._report is None:
            return
        rows: list[Json] = []
        bytes_left = REPORT_BYTES_MAX
        for connection in self._report():
            row = _row(connection)
            row_bytes = len(json.dumps(row).encode()) + 1
            if row_bytes > bytes_left:
                yield {"connections": rows}
                rows, bytes_left = [], REPORT_BYTES_MAX
            rows.append(row)
            bytes_left -= row_bytes
        yield {"connections": rows, "complete": True}

    def _take(self, line: bytes) -> None:
        message = read_message(line)
        if isinstance(message, Answer):
            answer = self._pending.get(message.id) if isinstance(message.id, int) else None
            if message.error is not None and answer is None:
                LOG.warning("soramoded: %s", message.error)
            if answer is None or answer.done():
                return
            if message.error is not None:
                answer.set_exception(message.error)
            else:
                answer.set_result(message.result or {})
        elif message.method in self._handlers:
            kind, _ = self._handlers[message.method]
            queue = self._fences if kind is Fence else self._notifications
            try:
                queue.put_nowait((message.method, read_object(kind, message.params)))
            except asyncio.QueueFull:
                LOG.warning("%s was dropped: %d notifications wait for their handlers", message.method, NOTIFICATIONS_MAX)

    async def _handle(self, notifications: asyncio.Queue[tuple[str, Any]]) -> None:
        while True:
            method, notification = await notifications.get()
            try:
                await self._handlers[method][1](notification)
                if isinstance(notification, Fence):
                    self._write(None, "Acknowledge", {"id": notification.id})
            except Exception:
                LOG.exception("the handler of %s failed", method)


def _unreachable(method: str) -> SoramodeError:
    return SoramodeError(UNREACHABLE, f"soramoded does not answer {method}")


def _row(connection: ReportedConnection) -> Json:
    return {name: value for name, value in asdict(connection).items() if value is not None}
