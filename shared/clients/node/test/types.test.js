// The types of soramode.d.ts have the members of the golden lines, and no others.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readMessage } from "../soramode.js";

const declared = readFileSync(new URL("../soramode.d.ts", import.meta.url), "utf8");
const messages = (name) =>
  readFileSync(new URL(`../../../tests/wire/v1/${name}.jsonl`, import.meta.url), "utf8").trimEnd().split("\n").map(readMessage);

/** The members of an interface, each with true if it may be absent. */
function members(name) {
  const [, body] = declared.match(new RegExp(`export interface ${name} \\{\n([^]*?)\n\\}`));
  return new Map([...body.matchAll(/^ {2}(\w+)(\??):/gm)].map(([, member, optional]) => [member, optional === "?"]));
}

/** Checks objects of the wire against an interface; each member occurs in one of them. */
function check(name, objects) {
  const seen = new Set(objects.flatMap(Object.keys));
  assert.deepEqual([...members(name).keys()].sort(), [...seen].sort(), name);
  for (const [member, optional] of members(name)) {
    if (!optional) assert.ok(objects.every((object) => member in object), `${name}.${member} may be absent`);
  }
}

test("members of the types are those of the golden lines", () => {
  const decisions = messages("Connect").flatMap(({ result }) => result ?? []);
  const of = (type) => decisions.filter((decision) => decision.type === type);
  check("Offer", of("offer"));
  check("Reject", of("reject"));
  check("Redirect", of("redirect"));
  check("Claim", decisions.flatMap(({ claim }) => claim ?? []));
  check("Disconnected", messages("Disconnect").flatMap(({ result }) => result ?? []));
  check("ReportedConnection", messages("Report").flatMap(({ params }) => params?.connections ?? []));
  for (const method of ["End", "Fence", "Announce"]) {
    check(method, messages("notifications").flatMap((message) => (message.method === method ? message.params : [])));
  }
});
