// The client against a real soramoded, over restarts and kills.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Soramode, follow } from "../soramode.js";
import { Daemon } from "./daemon.js";

const PATIENCE_MS = 60_000;
const options = { skip: process.env.SORAMODED ? false : "SORAMODED names no soramoded", timeout: 2 * PATIENCE_MS };

/** A signalling server: its connections, and its client of soramoded. */
class Server {
  constructor(path, more = {}) {
    this.connections = new Map();
    const report = () => [...this.connections].map(([connection_id, channel_id]) => ({ channel_id, connection_id }));
    this.said = [];
    const log = (text) => this.said.push(text);
    this.soramode = new Soramode({ report, path, whenUnreachable: "reject", timeoutMs: PATIENCE_MS, log, ...more });
  }

  async join(channel_id, connection_id) {
    const decision = await this.soramode.connect({ channel_id, connection_id });
    if (decision.type === "offer") this.connections.set(connection_id, channel_id);
    return decision;
  }

  leave(connection_id) {
    this.connections.delete(connection_id);
    return this.soramode.disconnect(connection_id);
  }

  /** The connections that soramoded has. */
  async known() {
    const known = new Map();
    let cursor;
    do {
      const page = await this.soramode.call("ListConnections", { limit: 1000, cursor });
      for (const row of page.connections) known.set(row.connection_id, row.channel_id);
      cursor = page.cursor;
    } while (cursor !== undefined);
    return known;
  }
}

/** Runs with a daemon and the clients that are made for it. */
async function withDaemon(flags, run) {
  const daemon = new Daemon(...flags);
  const servers = [];
  try {
    await run(daemon, (more) => (servers.push(new Server(daemon.socket, more)), servers.at(-1)));
  } finally {
    for (const server of servers) server.soramode.close();
    await daemon.close();
  }
}

/** Numbers that can be repeated. */
function random(seed) {
  return () => (seed = (seed * 48271) % 2147483647) / 2147483647;
}

test("decisions are obeyed", options, () =>
  withDaemon([], async (daemon, serve) => {
    daemon.start();
    const server = serve();
    const { soramode } = server;
    const first = await soramode.connect({ channel_id: "spam", connection_id: "1" });
    assert.deepEqual([first.type, first.channel_id, first.connection_id, first.created], ["offer", "spam", "1", true]);
    const generated = await soramode.connect({ channel_id: "spam", client_id: "alice" });
    assert.deepEqual([generated.type, generated.created], ["offer", false]);
    await assert.rejects(soramode.connect({ channel_id: "egg", connection_id: "1" }), { errorType: "ConnectionIdInUse" });
    await assert.rejects(soramode.connect({ channel_id: "x".repeat(256) }), (error) => error.data.field === "channel_id");
    await soramode.call("ChangeMode", { mode: "block_new_session" });
    const rejected = await soramode.connect({ channel_id: "egg", connection_id: "2" });
    assert.deepEqual(rejected, { type: "reject", reason: "BLOCK-NEW-SESSION", mode: "block_new_session" });
    const gone = await soramode.disconnect("1");
    assert.deepEqual(gone, { found: true, channel_id: "spam", session_id: first.session_id });
    assert.deepEqual(server.said, []);
  }));

for (const flags of [[], ["--ephemeral"]]) {
  test(`kills and restarts lose nothing ${flags}`, options, () =>
    withDaemon(flags, async (daemon, serve) => {
      daemon.start();
      const server = serve();
      const chance = random(Number(process.env.SORAMODE_SEED ?? 1));
      const churn = async (worker) => {
        for (let number = 0; number < 20; number += 1) {
          const connection = `${worker}-${number}`;
          const decision = await server.join(`channel-${Math.floor(10 * chance())}`, connection);
          assert.equal(decision.type, "offer");
          if (chance() < 0.5) await server.leave(connection);
        }
      };
      for (let round = 0; round < 6; round += 1) {
        const workers = Array.from({ length: 8 }, (_, worker) => churn(`${round}-${worker}`));
        await daemon.restart(round % 2 === 0 ? "SIGTERM" : "SIGKILL");
        await Promise.all(workers);
        assert.deepEqual(new Map([...(await server.known())].sort()), new Map([...server.connections].sort()));
      }
      const status = await server.soramode.call("GetStatus");
      assert.deepEqual([status.connections, status.sessions_complete], [server.connections.size, true]);
    }));
}

test("a long report takes several requests", options, () =>
  withDaemon(["--ephemeral"], async (daemon, serve) => {
    const server = serve();
    for (let number = 0; number < 3000; number += 1) server.connections.set(`${number}-${"é".repeat(100)}`, "spam");
    daemon.start();
    assert.equal((await server.known()).size, 3000);
    await daemon.restart("SIGKILL");
    assert.equal((await server.known()).size, 3000);
  }));

test("without soramoded one word decides", options, () =>
  withDaemon([], async (daemon, serve) => {
    const closed = serve({ timeoutMs: 200 });
    const opened = serve({ timeoutMs: 200, whenUnreachable: "admit" });
    for (let again = 0; again < 2; again += 1) {
      assert.deepEqual(await closed.join("spam", "1"), { type: "reject", reason: "Unreachable" });
    }
    const admitted = await opened.join("spam", "2");
    assert.deepEqual(admitted, { type: "offer", channel_id: "spam", connection_id: "2", created: false });
    assert.equal(await opened.soramode.disconnect("3"), undefined);
    assert.throws(() => new Soramode({ report: null, whenUnreachable: "maybe" }), TypeError);
    assert.throws(() => new Soramode({ whenUnreachable: "admit" }), TypeError);
    for (const server of [closed, opened]) server.soramode.close();
    // It comes back, and gets the client that was admitted without it.
    daemon.start();
    const server = serve();
    server.connections = opened.connections;
    assert.deepEqual(await server.known(), new Map([["2", "spam"]]));
  }));

test("a soramoded that hangs is given up and taken up again", options, () =>
  withDaemon([], async (daemon, serve) => {
    daemon.start();
    const server = serve({ timeoutMs: 1000 });
    while ((await server.join("spam", "1")).type !== "offer");
    daemon.process.kill("SIGSTOP");
    const ids = Array.from({ length: 400 }, (_, number) => `s-${number}`);
    const decisions = await Promise.all(ids.map((connection_id) => server.soramode.connect({ channel_id: "spam", connection_id })));
    assert.ok(decisions.every(({ reason }) => reason === "Unreachable"));
    assert.equal(server.soramode.isConnected, false);
    daemon.process.kill("SIGCONT");
    // Some of them were admitted after all; the report ends them.
    const late = serve();
    late.connections = server.connections;
    while ((await late.known()).size !== 1);
    assert.deepEqual(await late.known(), server.connections);
  }));

test("a cancelled question leaves no connection", options, () =>
  withDaemon([], async (daemon, serve) => {
    daemon.start();
    const server = serve();
    await server.join("spam", "1");
    const abort = new AbortController();
    const asked = server.soramode.connect({ channel_id: "spam", connection_id: "2" }, { signal: abort.signal });
    abort.abort();
    await assert.rejects(asked, { name: "AbortError" });
    await assert.rejects(server.soramode.connect({ channel_id: "spam" }, { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.deepEqual(await server.known(), server.connections);
  }));

test("sessions are ended and announced to, also after a restart", options, () =>
  withDaemon([], async (daemon, serve) => {
    daemon.start();
    const announced = [];
    let heard = () => {};
    const onEnd = async ({ channel_id }) => {
      const leaving = [...server.connections].filter(([, channel]) => channel === channel_id);
      for (const [connection] of leaving) await server.leave(connection);
    };
    const server = serve({ onEnd, onAnnounce: (announce) => (announced.push(announce), heard()) });
    const { soramode } = server;
    for (let round = 0; round < 2; round += 1) {
      await server.join("spam", `a-${round}`);
      await server.join("egg", `b-${round}`);
      assert.equal((await soramode.call("GetStatus")).end_subscribers, 1);
      const arrived = new Promise((resolve) => (heard = resolve));
      const { id } = await soramode.call("Announce", { text: "soon", channel_id: "spam", data: { level: round } });
      await arrived;
      const { session_id, ...announce } = announced.pop();
      assert.deepEqual(announce, { channel_id: "spam", kind: "maintenance", id, text: "soon", data: { level: round } });
      await soramode.call("ChangeMode", { mode: "block_new_connection" });
      const ended = await soramode.call("End", { all: true });
      assert.deepEqual([ended.sessions, ended.via], [2, "subscribers"]);
      const waited = await soramode.call("Wait", { for: "drained", timeout_seconds: 60 });
      assert.deepEqual([waited.outcome, server.connections.size], ["reached", 0]);
      await soramode.call("ChangeMode", { mode: "normal" });
      await daemon.restart("SIGKILL");
    }
  }));

test("the example of the README gates clients", options, () =>
  withDaemon([], async (daemon, serve) => {
    daemon.start();
    process.env.SORAMODE_SOCKET = daemon.socket;
    const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
    const [, code] = readme.match(/```js\nimport .*\n([^]*?)```/);
    const { join, leave, connections, soramode } = new Function("Soramode", `${code}; return { join, leave, connections, soramode };`)(Soramode);
    const client = { admit: () => "admit", reject: (reason) => reason };
    assert.equal(await join(client, "spam", "1"), "admit");
    await soramode.call("ChangeMode", { mode: "block_new_session" });
    assert.equal(await join(client, "egg", "2"), "BLOCK-NEW-SESSION");
    assert.equal(await join(client, "spam", "3"), "admit");
    await leave("1");
    assert.deepEqual([...connections.keys()], ["3"]);
    assert.deepEqual(await Object.assign(serve(), { connections }).known(), connections);
    soramode.close();
    delete process.env.SORAMODE_SOCKET;
  }));

test("events come without a gap over kills", options, () =>
  withDaemon([], async (daemon, serve) => {
    daemon.start();
    const server = serve();
    await server.join("spam", "1");
    const events = follow({ types: ["session.*"], path: daemon.socket, start: 1 });
    const seen = [];
    for (let round = 0; round < 3; round += 1) {
      const { value } = await events.next();
      seen.push([value.type, value.channel_id]);
      await daemon.restart("SIGKILL");
      await server.join(`egg-${round}`, `e-${round}`);
    }
    await events.return();
    assert.deepEqual(seen, [["session.created", "spam"], ["session.created", "egg-0"], ["session.created", "egg-1"]]);
  }));
