/**
 * What the server tells the page, and the page the server: JSON. A module of types and of constants: server and browser
 * share it. Times are milliseconds since 1970; numbers are exact below 2^53.
 */
import type { Chip } from './chips.js';

/** GET /api/session */
export interface Session {
  readonly version: string;
  /** What is shown: `node quickstart`, `cluster prod, by its relay`. */
  readonly source: string;
  /** Who looks; empty: whoever may use the socket or the kubeconfig. */
  readonly user: string;
  /** Namespaces that this user may see; undefined: all. */
  readonly namespaces?: readonly string[];
  /** Policies can be written: stage, enforce, undo. Otherwise `readOnly` says why not. */
  readonly writes: boolean;
  readonly readOnly?: string;
  /** POST /api/logout ends the session. */
  readonly signedIn?: boolean;
}

/** A time window of edges. `live`: seen in the last 15 minutes, with the numbers of today. */
export const WINDOWS = ['live', '24h', '7d', '35d'] as const;
export type Window = (typeof WINDOWS)[number];

/** POST /api/stream: what a page looks at. The answer is a text/event-stream of StreamMessages. */
export interface View {
  readonly window: Window;
  /** Empty: all that may be seen. */
  readonly namespaces: readonly string[];
  readonly chips: readonly Chip[];
  readonly edges: boolean;
  /** Single flows too, the last ones first. */
  readonly flows?: { readonly last: number };
}

export type Verdict = 'allow' | 'deny' | 'partial' | 'none';

/** As EdgeParty in src/edges/edge.ts. */
export interface Party {
  readonly kind: 'workload' | 'node' | 'name' | 'address' | 'service' | 'other';
  readonly namespace: string;
  readonly workloadKind: string;
  readonly name: string;
}

export interface RuleName {
  /** `np/shop/web#2` */
  readonly text: string;
  /** Kind, namespace and name of its policy. */
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Negative: -1 the tier's default, -2 what the language always allows. */
  readonly index: number;
  readonly staged: boolean;
  readonly dialect: string;
  readonly tier: string;
  readonly action: string;
}

export interface EdgeInfo {
  /** Of this stream. */
  readonly id: number;
  readonly source: Party;
  readonly destination: Party;
  readonly inbound: boolean;
  /** `namespace/name` */
  readonly service: string;
  readonly servicePort: number;
  readonly port: number;
  /** IANA number. */
  readonly protocol: number;
  readonly verdict: Verdict;
  readonly auditVerdict: Verdict;
  readonly reason: string;
  readonly rule?: RuleName;
  readonly auditRule?: RuleName;
  readonly address: string;
}

/** id, first, last, connections, bytes, drops, days, hours. A later row of an id replaces it. Days: bit n is n days ago, by the server's UTC. */
export type EdgeRow = readonly [
  id: number,
  firstMs: number,
  lastMs: number,
  connections: number,
  bytes: number,
  drops: number,
  days: number,
  hours: number,
];

export interface EdgesMessage {
  readonly type: 'edges';
  /** Edges that the stream has not described yet. */
  readonly edges: readonly EdgeInfo[];
  readonly rows: readonly EdgeRow[];
  /** Ids of edges that have left the window. */
  readonly gone?: readonly number[];
  /** All that there was has been sent. */
  readonly caughtUp: boolean;
  /** Since when there are records. */
  readonly beganMs?: number;
  /** Flows that found no edge of their own. Absent: of the whole cluster, which this viewer may not see. */
  readonly overflow?: number;
  /** More edges than can be shown: the oldest are left out. */
  readonly more: boolean;
  readonly unavailable: readonly string[];
  readonly nowMs: number;
}

/** An end of a flow. */
export interface FlowEnd {
  readonly ip: string;
  readonly port: number;
  readonly namespace: string;
  readonly pod: string;
  readonly workload: string;
  readonly workloadKind: string;
  readonly names: readonly string[];
  readonly labels: readonly string[];
  /** world, host, remote-node … where it is no pod. */
  readonly reserved: string;
}

export interface FlowRow {
  /** Of this stream, ascending. */
  readonly id: number;
  readonly timeMs: number;
  /** verdict, changed, drop, end, log, dns, said */
  readonly event: string;
  readonly verdict: Verdict;
  readonly auditVerdict: Verdict;
  readonly reason: string;
  readonly source: FlowEnd;
  readonly destination: FlowEnd;
  readonly protocol: string;
  readonly service: string;
  readonly inbound: boolean;
  readonly rule?: RuleName;
  readonly auditRule?: RuleName;
  /** Both directions. */
  readonly bytes: number;
  readonly packets: number;
  readonly drops: number;
  readonly node: string;
  /** What was asked of DNS, or what the connection said. */
  readonly detail: string;
}

export interface FlowsMessage {
  readonly type: 'flows';
  /** Ascending time. */
  readonly flows: readonly FlowRow[];
  /** Flows that matched in this period, shown or not. */
  readonly seen: number;
  /** Of all flows. Absent: this viewer may not see them all. */
  readonly lost?: number;
  /** They are from before the stream began. */
  readonly past: boolean;
}

export interface NodeBrief {
  readonly name: string;
  readonly connected: boolean;
  readonly message: string;
  /** Numbers of the whole cluster; absent for who may not see it. */
  readonly policiesRefused?: number;
  readonly flowsPerSecond?: number;
  /** Events lost since the agent began. */
  readonly lost?: number;
}

export interface NodesMessage {
  readonly type: 'nodes';
  readonly nodes: readonly NodeBrief[];
}

/** The policies have changed: what was asked about them is to be asked again. */
export interface ChangedMessage {
  readonly type: 'changed';
}

/** The source does not answer; the stream goes on and tries again. */
export interface TroubleMessage {
  readonly type: 'trouble';
  readonly about: 'edges' | 'flows' | 'nodes' | 'policies';
  /** Empty: it is over. */
  readonly message: string;
}

export type StreamMessage = EdgesMessage | FlowsMessage | NodesMessage | ChangedMessage | TroubleMessage;

/** The body of every answer that is no 2xx. */
export interface Fault {
  readonly error: string;
  readonly hint?: string;
  /** Field or object. */
  readonly field?: string;
  readonly object?: string;
  /** There is no session, and a token begins one: POST /api/login. */
  readonly signIn?: boolean;
}
