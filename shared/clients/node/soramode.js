// A signalling server's connection to soramoded, which outlasts restarts of it.

import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { REQUEST_BYTES_MAX, SoramodeError, defaultPath, lineReader, readMessage, writeRequest } from "./wire.js";

export { follow } from "./events.js";
export { SoramodeError, readMessage, writeRequest } from "./wire.js";

/** Requests without an answer; further ones wait. soramoded reads no more of one client. */
const IN_FLIGHT_MAX = 256;

/** Requests that wait; further ones are decided without soramoded. */
const WAITING_MAX = 4096;

/** Notifications that wait for their handler; further ones are dropped, with a warning. */
const NOTIFICATIONS_MAX = 65_536;

/** Shortest and longest pause between attempts to connect. */
const RETRY_MS = [100, 1000];

/** How long soramoded may take for a report: after that time it counts the connections as ended. */
const BEGIN_MS = 30_000;

/** Bytes that soramoded has not read; a connection with more is given up. */
const UNSENT_BYTES_MAX = 1_048_576;

/** Connections in one request of a report, in bytes. */
const REPORT_BYTES_MAX = REQUEST_BYTES_MAX - 200;

/** A subscription names a type of event; this one is rare. */
const NO_EVENTS = "session.vanished";

/** Errors of `Connect` that reject the client. */
const REJECTED = ["StorageUnavailable", "ClusterUnavailable"];

/** Stands for the answer that does not come. */
const UNREACHABLE = "Unreachable";

export class Soramode {
  #options;
  #handlers;
  #socket;
  #isReady = false;
  #isClosed = false;
  #hasWarned = false;
  #awaySince = Date.now();
  #readAt = 0;
  #pause = RETRY_MS[0];
  #retry;
  #lastId = 0;
  /** Requests that were sent, by id; those of the report and the subscription among them. */
  #pending = new Map();
  #waiting = [];
  /** Fences do not wait for the handlers of others. */
  #fences = { waiting: 0, handled: Promise.resolve() };
  #notifications = { waiting: 0, handled: Promise.resolve() };

  constructor({ report, whenUnreachable, path, timeoutMs = 5000, onEnd, onFence, onAnnounce, log = console.warn }) {
    if (!["admit", "reject"].includes(whenUnreachable)) throw new TypeError('whenUnreachable takes "admit" or "reject"');
    if (report !== null && typeof report !== "function") throw new TypeError("report takes a function, or null");
    if (onFence && !onEnd) throw new TypeError("onFence takes onEnd as well: soramoded sends both to the same clients");
    this.#options = { report, whenUnreachable, path, timeoutMs, log };
    const handlers = { End: onEnd, Fence: onFence, Announce: onAnnounce };
    this.#handlers = new Map(Object.entries(handlers).filter(([, handler]) => handler));
    this.#connect();
  }

  get isConnected() {
    return this.#isReady;
  }

  async connect({ connection_id = randomUUID(), ...rest }, { signal } = {}) {
    const params = { ...rest, connection_id, lifetime: "socket" };
    try {
      return await this.#call("Connect", params, signal);
    } catch (error) {
      if (signal?.aborted) this.#send(null, "Disconnect", { connection_id });
      if (REJECTED.includes(error.errorType)) return { type: "reject", reason: error.errorType };
      if (error.errorType !== UNREACHABLE) throw error;
      if (this.#isClosed) return { type: "reject", reason: UNREACHABLE };
      const admits = this.#options.whenUnreachable === "admit";
      if (!this.#hasWarned) this.#options.log(`soramode: ${error.message}: clients are ${admits ? "admitted" : "rejected"} until it does`);
      this.#hasWarned = true;
      // soramoded learns of the decision from the next report; without a lost connection there is none.
      if (!admits) {
        if (this.#isReady) this.#send(null, "Disconnect", { connection_id });
        return { type: "reject", reason: UNREACHABLE };
      }
      const { channel_id, client_id } = params;
      this.#send(null, "Report", { connections: [{ channel_id, connection_id, client_id }] });
      return { type: "offer", channel_id, connection_id, created: false };
    }
  }

  async disconnect(connection_id) {
    // A question that has not been sent is not sent any more.
    for (const call of [...this.#waiting]) {
      if (call.method === "Connect" && call.params.connection_id === connection_id) {
        this.#finish(call, new SoramodeError("NotFound", "the client left before it was admitted"));
      }
    }
    try {
      return await this.#call("Disconnect", { connection_id });
    } catch (error) {
      if (error.errorType !== UNREACHABLE) throw error;
      // A report that is under way may have the connection.
      this.#send(null, "Disconnect", { connection_id });
      return undefined;
    }
  }

  call(method, params = {}) {
    return this.#call(method, params);
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#loseConnection();
    for (const call of this.#waiting.slice()) this.#finish(call, unreachable(call));
  }

  /** Sends a request, and gives its result. After a lost connection it is sent again: only for methods that may be repeated. */
  #call(method, params, signal) {
    return new Promise((resolve, reject) => {
      const call = { method, params, resolve, reject, id: undefined };
      if (signal?.aborted) return reject(signal.reason);
      if (this.#isClosed || this.#waiting.length >= WAITING_MAX) return reject(unreachable(call));
      // While soramoded is away for long, nothing waits for it.
      const now = Date.now();
      const wait = this.#awaySince === undefined ? this.#options.timeoutMs : this.#awaySince + this.#options.timeoutMs - now;
      if (wait <= 0) return reject(unreachable(call));
      call.timer = setTimeout(() => {
        // A connection on which nothing comes is given up; one that is busy, or that is sending its report, is not.
        const isSilent = performance.now() - Math.max(call.sentAt, this.#readAt) > this.#options.timeoutMs / 2;
        const isLost = call.id !== undefined && isSilent;
        this.#finish(call, unreachable(call));
        if (isLost) this.#loseConnection();
      }, wait);
      call.abort = () => this.#finish(call, signal.reason);
      call.signal = signal;
      signal?.addEventListener("abort", call.abort, { once: true });
      this.#waiting.push(call);
      this.#flush();
    });
  }

  #finish(call, error, result) {
    clearTimeout(call.timer);
    call.signal?.removeEventListener("abort", call.abort);
    this.#pending.delete(call.id);
    const at = call.id === undefined ? this.#waiting.indexOf(call) : -1;
    if (at >= 0) this.#waiting.splice(at, 1);
    if (error) call.reject(error);
    else call.resolve(result);
    this.#flush();
  }

  /** Sends requests as far as soramoded reads them. */
  #flush() {
    while (this.#isReady && this.#waiting.length > 0 && this.#pending.size < IN_FLIGHT_MAX) this.#begin(this.#waiting.shift());
  }

  #begin(call) {
    call.id = ++this.#lastId;
    call.sentAt = performance.now();
    this.#pending.set(call.id, call);
    this.#send(call.id, call.method, call.params);
  }

  #send(id, method, params) {
    if (!this.#socket) return;
    this.#socket.write(writeRequest(id, method, params));
    if (this.#isReady && this.#socket.writableLength > UNSENT_BYTES_MAX) this.#loseConnection();
  }

  #connect() {
    const socket = connect(this.#options.path ?? defaultPath());
    const take = lineReader((line) => socket === this.#socket && this.#take(line));
    this.#socket = socket;
    const begun = setTimeout(() => socket.destroy(), BEGIN_MS);
    socket.setEncoding("utf8");
    socket.on("connect", () => this.#report().then(() => clearTimeout(begun)));
    socket.on("data", (text) => {
      try {
        take(text);
      } catch (problem) {
        this.#options.log(`soramode: ${problem.message}`);
        socket.destroy();
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(begun);
      if (socket === this.#socket) this.#loseConnection();
      if (this.#isClosed) return;
      this.#retry = setTimeout(() => this.#connect(), this.#pause);
      this.#pause = Math.min(2 * this.#pause, RETRY_MS[1]);
    });
  }

  #loseConnection() {
    if (this.#isReady) this.#awaySince = Date.now();
    this.#isReady = false;
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const call of pending) call.id = undefined;
    // Sent again, in their order, before those that wait; a report is made anew.
    this.#waiting.unshift(...pending.filter((call) => call.timer !== undefined));
    for (const call of pending) if (call.timer === undefined) call.reject(unreachable(call));
  }

  /** Reports and subscribes. The report is written as a whole before anything else: no connection in it can end in between. */
  async #report() {
    try {
      const requests = [...this.#reportParts()].map((part) => ["Report", part]);
      if (this.#handlers.size > 0) {
        const [ends, announcements] = [this.#handlers.has("End"), this.#handlers.has("Announce")];
        requests.push(["Subscribe", { types: [NO_EVENTS], ends, announcements }]);
      }
      const answers = requests.map(([method, params]) => new Promise((resolve, reject) => this.#begin({ method, params, resolve, reject })));
      await Promise.all(answers);
      [this.#isReady, this.#awaySince, this.#pause] = [true, undefined, RETRY_MS[0]];
      if (this.#hasWarned) this.#options.log("soramode: soramoded answers again");
      this.#hasWarned = false;
      this.#flush();
    } catch (problem) {
      if (problem.errorType !== UNREACHABLE) this.#options.log(`soramode: cannot report to soramoded: ${problem.message}`);
      this.#loseConnection();
    }
  }

  *#reportParts() {
    if (this.#options.report === null) return;
    let [connections, left] = [[], REPORT_BYTES_MAX];
    for (const connection of this.#options.report()) {
      const bytes = Buffer.byteLength(JSON.stringify(connection)) + 1;
      if (bytes > left) {
        yield { connections };
        [connections, left] = [[], REPORT_BYTES_MAX];
      }
      connections.push(connection);
      left -= bytes;
    }
    yield { connections, complete: true };
  }

  #take(line) {
    this.#readAt = performance.now();
    const { id, method, params, result, error } = readMessage(line);
    if (method === undefined) {
      const call = this.#pending.get(id);
      if (call) this.#finish(call, error, result);
      else if (error) this.#options.log(`soramode: ${error.message}`);
    } else if (this.#handlers.has(method)) {
      const queue = method === "Fence" ? this.#fences : this.#notifications;
      if (queue.waiting >= NOTIFICATIONS_MAX) {
        return this.#options.log(`soramode: ${method} was dropped: ${NOTIFICATIONS_MAX} notifications wait for their handlers`);
      }
      queue.waiting += 1;
      queue.handled = queue.handled.then(() => {
        queue.waiting -= 1;
        return this.#handle(method, params);
      });
    }
  }

  async #handle(method, params) {
    try {
      await this.#handlers.get(method)(params);
      if (method === "Fence") this.#send(null, "Acknowledge", { id: params.id });
    } catch (problem) {
      this.#options.log(`soramode: the handler of ${method} failed: ${problem.message}`);
    }
  }
}

function unreachable({ method }) {
  return new SoramodeError(UNREACHABLE, `soramoded does not answer ${method}`);
}
