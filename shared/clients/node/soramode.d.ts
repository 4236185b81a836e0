/** Client of soramoded's control socket, for signalling servers. Objects have the names of the protocol. */

export type Mode = "normal" | "block_new_session" | "block_new_connection" | "initial";

/** The node's right to serve the channel; only in a cluster. */
export interface Claim {
  token: number;
  epoch: number;
  valid_for_ms?: number;
}

/** The client is admitted. */
export interface Offer {
  type: "offer";
  channel_id: string;
  connection_id: string;
  /** Absent if soramoded could not be asked, and `whenUnreachable` is "admit". */
  session_id?: string;
  created: boolean;
  claim?: Claim;
}

/** The client is rejected. */
export interface Reject {
  type: "reject";
  /** A reason of the protocol; or an error in its place: `Unreachable`, `StorageUnavailable`, `ClusterUnavailable`. */
  reason: string;
  mode?: Mode;
  retry_after_ms?: number;
}

/** The client belongs on another node. */
export interface Redirect {
  type: "redirect";
  node_name: string;
  location?: string;
}

export type Decision = Offer | Reject | Redirect;

export interface Disconnected {
  found: boolean;
  channel_id?: string;
  session_id?: string;
  durable?: boolean;
}

/** Connection that is live on the SFU. */
export interface ReportedConnection {
  channel_id: string;
  connection_id: string;
  client_id?: string;
  session_id?: string;
}

/** Session to end: disconnect its clients. It may come again until they have left. */
export interface End {
  channel_id: string;
  session_id: string;
  plan_id?: string;
  reason?: string;
}

/** Sessions to end at once, because the node may no longer serve them: of one channel, or of all. */
export interface Fence {
  id: number;
  channel_id?: string;
}

/** Announcement to pass on to the clients of a session. One with the same `id` may come twice. */
export interface Announce {
  channel_id: string;
  session_id: string;
  kind: string;
  id: string;
  text?: string;
  sessions_end_at?: string;
  data?: unknown;
  cancelled?: boolean;
}

/** Event of the log, with the members of its type. */
export interface Event {
  seq: number;
  id: string;
  type: string;
  timestamp: string;
  node_name: string;
  [member: string]: unknown;
}

/** Events that are no longer kept, both ends included. */
export interface Gap {
  type: "gap";
  from: number;
  to: number;
}

/** Error that soramoded answered, or why there is no answer. */
export class SoramodeError extends Error {
  errorType: string;
  code: number;
  data: Record<string, unknown>;
  constructor(errorType: string, message: string, code?: number, data?: Record<string, unknown>);
}

export interface Options {
  /**
   * Returns the connections that are live: every one that `connect` admitted and that has not left. It is called after each connection to
   * soramoded, and every connection that it lacks ends. So record a connection when `connect` returns, before anything else is awaited.
   * `null` if another process of this node reports the connections of all.
   */
  report: (() => Iterable<ReportedConnection>) | null;
  /** The decision while soramoded does not answer within `timeoutMs`. */
  whenUnreachable: "admit" | "reject";
  /** Path of the control socket; the protocol's if absent. */
  path?: string;
  /** 5000 if absent. */
  timeoutMs?: number;
  /** `onEnd` and `onAnnounce` are awaited one after another. */
  onEnd?: (end: End) => unknown;
  /** It does not wait for the others. The fence is acknowledged when it has returned. */
  onFence?: (fence: Fence) => unknown;
  onAnnounce?: (announce: Announce) => unknown;
  /** Takes warnings; `console.warn` if absent. */
  log?: (text: string) => void;
}

export interface Connect {
  channel_id: string;
  /** Generated if absent. */
  connection_id?: string;
  client_id?: string;
  hops?: number;
}

/** Asks soramoded for the admission of clients, over restarts of it. It connects at once. */
export class Soramode {
  constructor(options: Options);
  /** True while soramoded has this client's report. */
  readonly isConnected: boolean;
  /** Asks for the admission of a client. If the signal aborts it, the client counts as left. */
  connect(connect: Connect, options?: { signal?: AbortSignal }): Promise<Decision>;
  /** Reports that a client has left. `undefined` if soramoded does not answer: it learns of it later. */
  disconnect(connection_id: string): Promise<Disconnected | undefined>;
  /** Sends a request, and gives its result. After a lost connection it is sent again: only for methods that may be repeated. */
  call(method: string, params?: object): Promise<Record<string, any>>;
  /** Closes the connection for good: from now on every client is rejected. */
  close(): void;
}

/**
 * Yields events of these types, from now on or from the sequence number `start`. It never ends: while soramoded is away it reconnects. No event
 * is repeated. Another log, of a soramoded without its earlier state, is read from its beginning. A log that lost events in a power cut is read
 * from now on.
 */
export function follow(options?: { types?: string[]; path?: string; start?: number }): AsyncGenerator<Event | Gap, never, void>;

export type Message =
  | { id: number | string | null; method: string; params: Record<string, unknown> }
  | { id: number | string | null; result: Record<string, unknown> }
  | { id: number | string | null; error: SoramodeError };

/** Reads a line of the protocol; a notification has no id. */
export function readMessage(line: string): Message;

/** Writes a request as a line; without an id it is not answered. */
export function writeRequest(id: number | null, method: string, params: object): string;
