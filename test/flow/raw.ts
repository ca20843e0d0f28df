/** Events as the kernel writes them (struct ea_event), for an Intake. */
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import type { EnricherOptions } from '../../src/flow/names/enrich.js';
import { type EventCounter, Intake } from '../../src/flow/intake.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import type { Pod } from '../../src/identity/snapshot.js';
import { pod, rule, snapshot } from './flows.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KEY = E.flow.offset;
const VERDICTS = {
  none: ENUMS.ea_verdict.EA_VERDICT_NONE,
  allow: ENUMS.ea_verdict.EA_VERDICT_ALLOW,
  deny: ENUMS.ea_verdict.EA_VERDICT_DENY,
  partial: ENUMS.ea_verdict.EA_VERDICT_PARTIAL,
};

export interface RawEvent {
  /** CLOCK_MONOTONIC; unless given, now. */
  timeNs?: bigint;
  verdict?: keyof typeof VERDICTS;
  audit?: keyof typeof VERDICTS;
  /** 1 to the number of pods of the intake. */
  endpoint?: number;
  remote?: string;
  localPort?: number;
}

/** An agent's way from events to its hub, with pods `shop/web-1` …, endpoint n at 10.0.0.n, and one rule. */
export class RawIntake {
  readonly intake: Intake;
  readonly #buf: Buffer;
  readonly #batch: number;
  #held = 0;

  /** @param batch events that are added at once */
  constructor(
    nodeName: string,
    opts: { pods?: Pod[]; batch?: number; edges?: EventCounter } & Partial<EnricherOptions> = {},
  ) {
    const { pods = somePods(4), batch = 1, edges, ...rest } = opts;
    this.intake = new Intake({ nodeName, stride: EVENT_SIZE, ...rest, ...(edges ? { edges } : {}) });
    this.#batch = batch;
    this.#buf = Buffer.alloc(EVENT_SIZE * batch);
    const endpoints = new Map(pods.map((p, n) => [n + 1, { pod: `${p.namespace}/${p.name}`, uid: p.uid }]));
    const rules = new Map([
      [7, rule()],
      [8, rule({ action: 'deny', index: 3 })],
    ]);
    this.intake.learn({ snapshot: snapshot(pods), rules, endpoints });
  }

  add(event: RawEvent = {}): void {
    const { verdict = 'allow', audit = 'none', endpoint = 1, remote = '192.0.2.1', localPort = 40_000 } = event;
    const { timeNs = process.hrtime.bigint() } = event;
    const b = this.#buf.subarray(this.#held * EVENT_SIZE, (this.#held + 1) * EVENT_SIZE);
    b.fill(0);
    for (const name of ['time_ns', 'created_ns'] as const) b.writeBigUInt64LE(timeNs, E[name].offset);
    b[E.type.offset] = ENUMS.ea_event_type.EA_EVENT_VERDICT;
    b[E.verdict.offset] = VERDICTS[verdict];
    b[E.audit_verdict.offset] = VERDICTS[audit];
    b.writeBigUInt64LE(verdict === 'deny' ? 8n : 7n, E.rule.offset);
    b[E.family.offset] = 4;
    b.set(parseAddr(`10.0.0.${endpoint}`).bytes, KEY + K.local.offset);
    b.set(parseAddr(remote).bytes, KEY + K.remote.offset);
    b.writeUInt16BE(localPort, KEY + K.local_port.offset);
    b.writeUInt16BE(443, KEY + K.remote_port.offset);
    b.writeUInt32LE(endpoint, KEY + K.endpoint.offset);
    b[KEY + K.protocol.offset] = 6;
    if (++this.#held === this.#batch) this.flush();
  }

  flush(): void {
    this.intake.add(this.#buf, 0, this.#held);
    this.#held = 0;
  }
}

export function somePods(count: number): Pod[] {
  return Array.from({ length: count }, (_, n) =>
    pod('shop', `web-${n + 1}`, `10.0.0.${n + 1}`, { workload: { kind: 'Deployment', name: `web-${n + 1}` } }),
  );
}
