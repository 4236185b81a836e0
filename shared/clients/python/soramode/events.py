"""Events of soramoded, over restarts of it."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

from .wire import (
    ANSWER_BYTES_MAX,
    Answer,
    Call,
    Event,
    Gap,
    Json,
    SoramodeError,
    default_path,
    read_event,
    read_gap,
    read_message,
    write_request,
)

RETRY_SECONDS = 1.0


async def follow(types: Iterable[str] = ("*",), *, path: str | None = None, start: int | None = None) -> AsyncGenerator[Event | Gap, None]:
    """Yields events of these types, from now on or from `start`, a sequence number. It never ends: while soramoded is away it reconnects.

    No event is repeated, and one that is no longer kept is part of a `Gap`. Another log, of a soramoded without its earlier state, is read
    from its beginning. A log that lost events in a power cut is read from now on.
    """
    patterns, position = list(types), start
    log_id: str | None = None
    has_followed = False
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(path or default_path(), limit=ANSWER_BYTES_MAX)
        except OSError:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            info = await _ask(reader, writer, 1, "GetInfo", {})
            if log_id not in (None, info["log_id"]):
                position = 1
            log_id = info["log_id"]
            wanted = "now" if position is None else position
            try:
                subscribed = await _ask(reader, writer, 2, "Subscribe", {"from": wanted, "types": patterns})
            except SoramodeError as problem:
                if not has_followed or problem.data.get("field") != "from":
                    raise
                # After a power cut the log may end before the position.
                position = None
                subscribed = await _ask(reader, writer, 3, "Subscribe", {"from": "now", "types": patterns})
            has_followed = True
            if position is None:
                position = subscribed["next_seq"]
            while True:
                message = await _read(reader)
                if isinstance(message, Answer):
                    continue
                if message.method == "Event":
                    event = read_event(message.params)
                    position = event.seq + 1
                    yield event
                elif message.method == "Gap":
                    gap = read_gap(message.params)
                    position = gap.last + 1
                    yield gap
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
        await asyncio.sleep(RETRY_SECONDS)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id: int, method: str, params: Json) -> Json:
    """Sends a request, and returns its result; nothing else comes before it."""
    writer.write(write_request(id, method, params))
    message = await _read(reader)
    if not isinstance(message, Answer):
        raise ValueError(f"not an answer: {message}")
    if message.error is not None or message.result is None:
        raise message.error or ValueError("an answer without a result")
    return message.result


async def _read(reader: asyncio.StreamReader) -> Call | Answer:
    """Reads a message. The connection ends at a line that is cut or too long, too."""
    try:
        return read_message(await reader.readuntil())
    except asyncio.LimitOverrunError as problem:
        raise EOFError from problem
