// The client against a soramoded that misbehaves, and the limits of its queues.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Soramode, follow } from "../soramode.js";
import { ANSWER_CHARS_MAX, lineReader, writeRequest } from "../wire.js";

const NOTIFICATIONS_MAX = 65_536;
const options = { timeout: 60_000 };

/** Runs with a soramoded that answers every request but those of the held methods with an empty result, and then acts as the test says. */
async function withFake(act, run, held = []) {
  const folder = mkdtempSync(join(tmpdir(), "soramode-"));
  const path = join(folder, "soramode.sock");
  const fake = createServer((socket) => {
    const take = lineReader((line) => {
      const { id, method, params } = JSON.parse(line);
      const answer = () => id !== undefined && socket.write(JSON.stringify({ jsonrpc: "2.0", id, result: {} }) + "\n");
      if (!held.includes(method)) answer();
      act(method, params, socket, answer);
    });
    socket.setEncoding("utf8").on("data", take).on("error", () => {});
  }).listen(path);
  await once(fake, "listening");
  const said = [];
  const clients = [];
  const serve = (more) => {
    const log = (text) => said.push(text);
    clients.push(new Soramode({ report: null, path, whenUnreachable: "reject", timeoutMs: 60_000, log, ...more }));
    return clients.at(-1);
  };
  try {
    await run(serve, said, path);
  } finally {
    for (const client of clients) client.close();
    fake.close();
    rmSync(folder, { recursive: true });
  }
}

test("a fence is acknowledged when its handler has returned", options, async () => {
  const [acknowledged, handled] = [[], []];
  let done;
  const isDone = new Promise((resolve) => (done = resolve));
  const act = (method, params, socket) => {
    if (method === "Acknowledge") acknowledged.push(params), done();
    if (method !== "Subscribe") return;
    for (const fence of [{ id: 3 }, { id: 4, channel_id: "spam" }]) socket.write(writeRequest(null, "Fence", fence));
    socket.write(writeRequest(null, "Moonrise", {}));
  };
  const onFence = async (fence) => {
    handled.push(fence);
    if (fence.id === 3) throw new Error("it failed, and comes again");
  };
  await withFake(act, async (serve, said) => {
    serve({ onEnd: assert.fail, onFence });
    await isDone;
    assert.deepEqual([acknowledged, handled], [[{ id: 4 }], [{ id: 3 }, { id: 4, channel_id: "spam" }]]);
    assert.match(said[0], /handler of Fence failed/);
    assert.throws(() => serve({ onFence }), TypeError);
  });
});

test("a fence does not wait for the handler of another notification", options, async () => {
  let done;
  const isDone = new Promise((resolve) => (done = resolve));
  const act = (method, _, socket) => {
    if (method === "Acknowledge") done();
    if (method !== "Subscribe") return;
    socket.write(writeRequest(null, "End", { channel_id: "spam", session_id: "a" }));
    socket.write(writeRequest(null, "Fence", { id: 3 }));
  };
  await withFake(act, async (serve) => {
    serve({ onEnd: () => new Promise(() => {}), onFence: () => {} });
    await isDone;
  });
});

test("events go on after a line that is cut or too long", options, async () => {
  const event = writeRequest(null, "Event", { seq: 1 });
  for (const broken of [event.slice(0, 20), "x".repeat(ANSWER_CHARS_MAX + 1)]) {
    let isBroken = false;
    const act = (method, _, socket) => {
      if (method !== "Subscribe") return;
      if (isBroken) socket.write(event);
      else socket.end(broken);
      isBroken = true;
    };
    await withFake(act, async (_serve, _said, path) => {
      const events = follow({ path });
      assert.equal((await events.next()).value.seq, 1);
      await events.return();
    });
  }
});

test("events go on after the log lost some", options, async () => {
  const asked = [];
  const act = (method, { from }, socket, answer) => {
    if (method !== "Subscribe") return;
    asked.push(from);
    if (from === 9) {
      const error = { code: -32602, message: "got 9", data: { error_type: "InvalidParams", field: "from" } };
      socket.write(JSON.stringify({ jsonrpc: "2.0", id: 2, error }) + "\n");
      return;
    }
    answer();
    const event = writeRequest(null, "Event", { seq: asked.length === 1 ? 8 : 3 });
    if (asked.length === 1) socket.end(event);
    else socket.write(event);
  };
  const run = async (_serve, _said, path) => {
    const events = follow({ path, start: 8 });
    for (const seq of [8, 3]) assert.equal((await events.next()).value.seq, seq);
    await events.return();
    assert.deepEqual(asked, [8, 9, "now"]);
    await assert.rejects(follow({ path, start: 9 }).next(), { errorType: "InvalidParams" });
  };
  await withFake(act, run, ["Subscribe"]);
});

test("a client that is closed admits nobody", options, async () => {
  const soramode = new Soramode({ report: null, path: "/nonexistent", whenUnreachable: "admit", timeoutMs: 60_000, log: () => {} });
  const asked = soramode.connect({ channel_id: "spam" });
  soramode.close();
  for (const decision of [await asked, await soramode.connect({ channel_id: "spam" })]) {
    assert.deepEqual(decision, { type: "reject", reason: "Unreachable" });
  }
});

test("notifications that wait have a limit", options, async () => {
  let goOn;
  const mayGoOn = new Promise((resolve) => (goOn = resolve));
  const act = (method, _, socket) => {
    if (method !== "Subscribe") return;
    for (let number = 0; number < NOTIFICATIONS_MAX + 2; number += 1) {
      socket.write(writeRequest(null, "End", { channel_id: `${number}`, session_id: "a" }));
    }
  };
  const handled = [];
  const onEnd = async ({ channel_id }) => (await mayGoOn, handled.push(channel_id));
  await withFake(act, async (serve, said) => {
    // Its answer comes after them.
    await serve({ onEnd }).call("GetInfo");
    assert.match(said[0], /End was dropped/);
    const kept = NOTIFICATIONS_MAX + 2 - said.length;
    goOn();
    while (handled.length < kept) await turn();
    assert.deepEqual([handled[0], kept], ["0", NOTIFICATIONS_MAX + 1]);
  });
});

test("a soramoded that does not read is given up", options, () =>
  withFake(
    (method, _, socket) => method === "Connect" && socket.pause(),
    async (serve) => {
      const soramode = serve();
      await soramode.call("GetInfo");
      let asked = 0;
      for (; soramode.isConnected; asked += 1) {
        const abort = new AbortController();
        const question = soramode.connect({ channel_id: "spam", connection_id: "x".repeat(255) }, { signal: abort.signal });
        abort.abort();
        await assert.rejects(question, { name: "AbortError" });
        await turn();
      }
      assert.ok(asked > 1000, `${asked}`);
    },
  ));

test("a report is not broken off by requests that wait for it", options, async () => {
  const [connections, asked] = [new Set(), []];
  let answerReport;
  const act = (method, params, socket, answer) => {
    connections.add(socket);
    asked.push([method, params]);
    if (params.complete) answerReport = answer;
  };
  const run = async (serve) => {
    const soramode = serve({ report: () => [], whenUnreachable: "admit", timeoutMs: 500 });
    const asks = ["1", "2"].map((connection_id) => soramode.connect({ channel_id: "spam", connection_id, client_id: "alice" }));
    for (const decision of await Promise.all(asks)) assert.equal(decision.type, "offer");
    // soramoded is away for long.
    assert.equal((await soramode.connect({ channel_id: "spam", connection_id: "3" })).type, "offer");
    assert.equal(await soramode.disconnect("3"), undefined);
    while (!answerReport) await turn();
    answerReport();
    while (!soramode.isConnected) await turn();
    await soramode.call("GetInfo");
    assert.equal(connections.size, 1);
    // soramoded learns of the clients that its report could not have.
    assert.deepEqual(asked, [
      ["Report", { connections: [], complete: true }],
      ["Report", { connections: [{ channel_id: "spam", connection_id: "1", client_id: "alice" }] }],
      ["Report", { connections: [{ channel_id: "spam", connection_id: "2", client_id: "alice" }] }],
      ["Report", { connections: [{ channel_id: "spam", connection_id: "3" }] }],
      ["Disconnect", { connection_id: "3" }],
      ["GetInfo", {}],
    ]);
  };
  await withFake(act, run, ["Report"]);
});

for (const whenUnreachable of ["admit", "reject"]) {
  test(`a soramoded that is slow is not given up: ${whenUnreachable}`, options, async () => {
    const [connections, corrections] = [new Set(), new Map()];
    const act = (method, { connections: rows, connection_id }, socket) => {
      connections.add(socket);
      if (method === "Report") corrections.set(rows[0].connection_id, method);
      if (method === "Disconnect") corrections.set(connection_id, method);
    };
    const run = async (serve) => {
      const soramode = serve({ whenUnreachable, timeoutMs: 1000 });
      await soramode.call("GetInfo");
      let isDecided = false;
      const asks = Array.from({ length: 250 }, (_, number) => soramode.connect({ channel_id: "spam", connection_id: `${number}` }));
      const decisions = Promise.all(asks).finally(() => (isDecided = true));
      // It answers others meanwhile.
      while (!isDecided) await soramode.call("GetInfo");
      assert.ok((await decisions).every(({ type }) => type === (whenUnreachable === "admit" ? "offer" : "reject")));
      await soramode.call("GetInfo");
      assert.deepEqual([soramode.isConnected, connections.size], [true, 1]);
      // What was decided without it is said behind the questions.
      assert.equal(corrections.size, 250);
      assert.deepEqual([...new Set(corrections.values())], [whenUnreachable === "admit" ? "Report" : "Disconnect"]);
    };
    await withFake(act, run, ["Connect"]);
  });
}

test("a line that is too long ends the connection", options, async () => {
  let sent = false;
  const act = (method, _, socket) => {
    if (method === "GetInfo" && !sent) socket.write("x".repeat(ANSWER_CHARS_MAX + 1));
    sent ||= method === "GetInfo";
  };
  await withFake(act, async (serve, said) => {
    const soramode = serve();
    await soramode.call("GetInfo");
    while (soramode.isConnected) await turn();
    assert.match(said[0], /too long/);
    await soramode.call("GetInfo");
  });
});

test("requests that wait have a limit", options, async () => {
  const soramode = new Soramode({ report: null, path: "/nonexistent", whenUnreachable: "reject", timeoutMs: 60_000, log: () => {} });
  const asked = Array.from({ length: 4097 }, () => soramode.call("GetInfo").catch(({ errorType }) => errorType));
  assert.equal(await asked.at(-1), "Unreachable");
  soramode.close();
  assert.ok((await Promise.all(asked)).every((errorType) => errorType === "Unreachable"));
  assert.equal(await soramode.call("GetInfo").catch(({ errorType }) => errorType), "Unreachable");
});
