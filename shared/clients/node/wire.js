// Messages of the control socket: JSON-RPC 2.0, one message per line. Objects have the names of the protocol; unknown members stay in them.

import { existsSync } from "node:fs";

/** Longest line of a request, in bytes. */
export const REQUEST_BYTES_MAX = 65_536;

/** Longest line that soramoded sends, in characters. */
export const ANSWER_CHARS_MAX = 16 * 1024 * 1024;

/** Error that soramoded answered, or why there is no answer. */
export class SoramodeError extends Error {
  constructor(errorType, message, code = 0, data = {}) {
    super(`${errorType}: ${message}`);
    this.name = "SoramodeError";
    this.errorType = errorType;
    this.code = code;
    this.data = data;
  }
}

/** Reads a line: `{ id, method, params }`, without an id a notification; or `{ id, result }` or `{ id, error }`. */
export function readMessage(line) {
  const message = JSON.parse(line);
  if (message === null || typeof message !== "object" || Array.isArray(message)) throw new Error("not a message: no object");
  const { id = null, method, params = {}, result, error } = message;
  if (method !== undefined) return { id, method, params };
  if (error !== undefined) {
    const data = error.data ?? {};
    return { id, error: new SoramodeError(data.error_type ?? "Unknown", error.message, error.code, data) };
  }
  if (result === undefined) throw new Error("not a message: neither a result nor an error");
  return { id, result };
}

/** Writes a request as a line; without an id it is not answered. */
export function writeRequest(id, method, params) {
  return JSON.stringify({ jsonrpc: "2.0", id: id ?? undefined, method, params }) + "\n";
}

/** Splits text into lines; the returned function takes the next piece of it. */
export function lineReader(take) {
  let rest = [];
  let chars = 0;
  return (text) => {
    const lines = text.split("\n");
    if (lines.length > 1) {
      lines[0] = rest.join("") + lines[0];
      [rest, chars] = [[], 0];
    }
    const last = lines.pop();
    lines.forEach(take);
    rest.push(last);
    chars += last.length;
    if (chars > ANSWER_CHARS_MAX) throw Object.assign(new Error("soramoded sent a line that is too long"), { code: "LINE_TOO_LONG" });
  };
}

/** Returns the path of the control socket: the first of the protocol's that exists. */
export function defaultPath() {
  const { SORAMODE_SOCKET, XDG_RUNTIME_DIR } = process.env;
  const system = "/run/soramode/soramode.sock";
  const uid = process.getuid();
  if (SORAMODE_SOCKET) return SORAMODE_SOCKET;
  if (uid === 0 || existsSync(system)) return system;
  return XDG_RUNTIME_DIR ? `${XDG_RUNTIME_DIR}/soramode/soramode.sock` : `/tmp/soramode-${uid}/soramode.sock`;
}
