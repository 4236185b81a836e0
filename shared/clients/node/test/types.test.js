// The types of soramode.d.ts have the members of the golden lines and of the description of the protocol, and no others.

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

const description = JSON.parse(readFileSync(new URL("../../../../man/openrpc.json", import.meta.url), "utf8"));
const schemas = description.components.schemas;

/** Returns the schema that a reference leads to. */
const resolve = ({ $ref, allOf, ...schema }) => {
  const reference = $ref ?? allOf?.[0].$ref;
  return reference === undefined ? schema : resolve(schemas[reference.split("/").at(-1)]);
};

/** Returns the TypeScript type of a schema. */
function typeOf(schema) {
  const { type, const: constant, enum: names } = resolve(schema);
  if (constant !== undefined) return JSON.stringify(constant);
  if (names !== undefined && names.join() === schemas.Mode.enum.join()) return "Mode";
  return { integer: "number", object: "Claim", string: "string", boolean: "boolean", undefined: "unknown" }[type];
}

/** The members of an interface with their types, as it is declared. */
function declaredTypes(name) {
  const [, body] = declared.match(new RegExp(`export interface ${name} \\{\n([^]*?)\n\\}`));
  return [...body.matchAll(/^ {2}(\w+)(\??): (.*);$/gm)].map(([, member, optional, type]) => `${member}${optional}: ${type}`).sort();
}

/** The members of a schema with their types, as an interface declares them. */
const describedTypes = ({ properties, required }, optional = []) =>
  Object.entries(properties)
    .map(([member, schema]) => `${member}${required.includes(member) && !optional.includes(member) ? "" : "?"}: ${typeOf(schema)}`)
    .sort();

test("types are those of the description of the protocol", () => {
  const decision = (type) => schemas.Decision.oneOf.find(({ properties }) => properties.type.const === type);
  for (const [name, schema, optional] of [
    // Optional for a decision that soramoded did not make.
    ["Offer", decision("offer"), ["session_id"]],
    ["Reject", decision("reject"), ["mode"]],
    ["Redirect", decision("redirect")],
    ["Claim", schemas.OfferedClaim],
    ["Disconnected", schemas.Disconnected],
    ["ReportedConnection", schemas.ReportedConnection],
    ["End", schemas.EndSession],
    ["Fence", schemas.Fence],
    ["Announce", schemas.AnnounceSession],
  ]) {
    assert.deepEqual(declaredTypes(name), describedTypes(schema, optional), name);
  }
  const event = describedTypes(schemas.Event).concat("type: string").sort();
  assert.deepEqual(declaredTypes("Event"), event);
  assert.deepEqual(declaredTypes("Gap"), describedTypes(schemas.Gap).concat('type: "gap"').sort());
  const modes = schemas.Mode.enum.map((mode) => JSON.stringify(mode)).join(" | ");
  assert.ok(declared.includes(`export type Mode = ${modes};`));
});
