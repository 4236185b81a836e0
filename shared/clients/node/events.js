// Events of soramoded, over restarts of it.

import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { defaultPath, lineReader, readMessage, writeRequest } from "./wire.js";

const RETRY_MS = 1000;

/**
 * Yields events of these types, from now on or from the sequence number `start`; and gaps, `{ type: "gap", from, to }`, in place of events that
 * are no longer kept. It never ends: while soramoded is away it reconnects. No event is repeated. Another log, of a soramoded without its
 * earlier state, is read from its beginning. A log that lost events in a power cut is read from now on.
 */
export async function* follow({ types = ["*"], path, start } = {}) {
  const position = { log: undefined, next: start, isKnown: false };
  for (;;) {
    const socket = connect(path ?? defaultPath());
    try {
      yield* read(socket, types, position);
    } catch (problem) {
      // An error of the protocol is the caller's; one of the connection passes.
      if (problem.code === undefined || problem.errorType !== undefined) throw problem;
    } finally {
      socket.destroy();
    }
    await sleep(RETRY_MS);
  }
}

async function* read(socket, types, position) {
  await once(socket, "connect");
  const messages = [];
  const take = lineReader((line) => messages.push(readMessage(line)));
  socket.setEncoding("utf8");
  socket.write(writeRequest(1, "GetInfo", {}));
  // A reader that is slow stops the socket.
  for await (const text of socket) {
    take(text);
    for (const { id, method, params, result, error } of messages.splice(0)) {
      if (id === 2 && position.isKnown && error?.data.field === "from") {
        // After a power cut the log may end before the position.
        position.next = undefined;
        socket.write(writeRequest(3, "Subscribe", { from: "now", types }));
      } else if (error) {
        throw error;
      } else if (id === 1) {
        if (position.log !== undefined && position.log !== result.log_id) position.next = 1;
        position.log = result.log_id;
        socket.write(writeRequest(2, "Subscribe", { from: position.next ?? "now", types }));
      } else if (id === 2 || id === 3) {
        position.next ??= result.next_seq;
        position.isKnown = true;
      } else if (method === "Event") {
        position.next = params.seq + 1;
        yield params;
      } else if (method === "Gap") {
        position.next = params.to + 1;
        yield { type: "gap", ...params };
      }
    }
  }
}
