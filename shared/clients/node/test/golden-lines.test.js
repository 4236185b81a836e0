// Every golden line of the protocol is read, and nothing in it is lost.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { readMessage, writeRequest } from "../soramode.js";

const folder = new URL("../../../tests/wire/v1/", import.meta.url);
const lines = (name) => readFileSync(new URL(`${name}.jsonl`, folder), "utf8").trimEnd().split("\n");
const names = readdirSync(folder).map((file) => file.replace(/\.jsonl$/, ""));

/** A number past 2^53 is an id that no client of this library sends. */
const isExact = (line) => JSON.stringify(JSON.parse(line)) === line;

test("every line is read", () => {
  assert.ok(names.includes("Connect"));
  for (const name of names.filter((name) => name !== "events")) {
    for (const line of lines(name)) {
      const whole = JSON.parse(line);
      const message = readMessage(line);
      assert.equal(message.id, whole.id ?? null, line);
      if (name === "errors") {
        const { code, message: text, data } = whole.error;
        assert.deepEqual([message.error.code, message.error.errorType, message.error.data], [code, data.error_type, data], line);
        assert.equal(message.error.message, `${data.error_type}: ${text}`);
      } else if (whole.method !== undefined) {
        assert.deepEqual([message.method, message.params], [whole.method, whole.params ?? {}], line);
        assert.ok(name === "notifications" || whole.method === name, line);
      } else {
        assert.deepEqual(message.result, whole.result, line);
      }
    }
  }
});

test("requests are written as the lines are", () => {
  for (const name of ["Connect", "Disconnect", "Report", "Subscribe", "Acknowledge", "GetInfo"]) {
    for (const line of lines(name).filter(isExact)) {
      const { id, method, params } = readMessage(line);
      if (method !== undefined) assert.equal(writeRequest(id, method, params), `${line}\n`);
    }
  }
});

test("a line that is no message is an error", () => {
  for (const line of ["", "{", "[]", "null", "1", '{"id":1}']) assert.throws(() => readMessage(line), Error, line);
});
