/** Agents in this process with what a test needs of them: a hub, a server on TCP with mutual TLS, a directory of certificates. */
import { NOTHING_SEEN } from '../edges/given.js';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentError } from '../../src/errors.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import type { Logger } from '../../src/log.js';
import { makeLogger } from '../../src/log.js';
import { RpcServer } from '../../src/rpc/server.js';
import type { TlsFiles } from '../../src/rpc/transport/tls.js';
import type { AgentStatus, AgentView, LearnedView } from '../../src/rpc/view.js';
import { type event, flow, LEAD } from '../flow/flows.js';

export const quiet: Logger = makeLogger('error', () => {});

/** A directory that is gone when the test is. */
export function tempDir(t: { teardown(f: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'egress-relay-test-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Writes a Secret's files as kubelet mounts them; each file appears whole. */
export function writeTls(dir: string, files: TlsFiles): string {
  mkdirSync(dir, { recursive: true });
  for (const [name, data] of [
    ['ca.crt', files.ca],
    ['tls.crt', files.cert],
    ['tls.key', files.key],
  ] as const) {
    writeFileSync(join(dir, `.${name}`), data, { mode: 0o600 });
    renameSync(join(dir, `.${name}`), join(dir, name));
  }
  return dir;
}

export async function until(what: string, done: () => boolean | Promise<boolean>, ms = 10_000): Promise<void> {
  for (let left = ms; left > 0 && !(await done()); left -= 20) await new Promise((resolve) => setTimeout(resolve, 20));
  if (!(await done())) throw new Error(`not in time: ${what}`);
}

function status(nodeName: string, pods: readonly string[]): AgentStatus {
  return {
    version: '1.2.3',
    nodeName,
    mode: 'manifests',
    source: '/policies',
    pid: 7,
    startedAt: 1_700_000_000_000,
    uptimeNs: 5e9,
    attachMode: 'tcx',
    denyResponse: 'drop',
    endpoints: pods.map((pod, i) => ({
      pod,
      uid: `u${i}`,
      interface: `veth${i}`,
      ifindex: 9 + i,
      hooks: ['tcx ingress'],
      state: 'enforced',
      policies: 1,
      set: 1,
      unproven: 0,
      lostEvents: 0,
      flows: 0,
      names: 1,
      namesRefused: 0,
      answersUntrusted: 0,
    })),
    hooks: { attached: 1, expected: 1, problems: [] },
    policies: { inForce: 3, staged: 0, refused: 0, problems: [] },
    epoch: 4,
    maps: [],
    flows: { perSecond: 1.5, seen: 10, inTable: 2, share: 8192, notStored: 0, evicted: 0, busy: 0 },
    lost: { ring: [1, 2], queue: 3 },
    drops: {},
    staleness: { appliedAt: 1_700_000_001_000 },
    namespaces: 1,
    names: {
      names: 12,
      pages: 20,
      share: 512,
      pageShare: 1024,
      refused: 0,
      overflow: 0,
      untrusted: 0,
      seeded: 0,
      resolvers: [],
      seen: [],
      dnsEventsLost: 0,
    },
    said: {
      inspected: 0,
      judged: 0,
      denied: 0,
      pending: 0,
      oversize: 0,
      withoutBuffer: 0,
      echWithoutRoom: 0,
      audited: 0,
      eventsLost: 0,
    },
    ledger: { beganMs: 1_700_000_000_000, edges: 3, max: 20_000, overflow: 0, forgotten: 0 },
  };
}

function learnedName(pod: string, name: string): LearnedView {
  const times = { learnedAt: 1_700_000_000_000, answeredAt: 1_700_000_001_000, expiresAt: 1_700_000_060_000 };
  const addresses = [{ ip: '203.0.113.1', alias: false, expiresAt: 1_700_000_060_000, ttl: 30 }];
  return { pod, name, asked: true, seeded: false, ...times, resolver: '10.96.0.10:53', addresses, rules: [] };
}

export class TestAgent {
  readonly name: string;
  readonly hub: FlowHub;
  readonly server: RpcServer;
  readonly pods: string[];
  port = 0;
  #n = 0;

  constructor(name: string, opts: { pods?: string[]; capacity?: number; hub?: FlowHub } & Partial<AgentView> = {}) {
    const { pods: _, capacity: __, hub: ___, ...own } = opts;
    this.name = name;
    this.pods = opts.pods ?? [`shop/${name}-pod`];
    this.hub = opts.hub ?? new FlowHub({ nodeName: name, ...(opts.capacity ? { capacity: opts.capacity } : {}) });
    const view: AgentView = {
      ...NOTHING_SEEN,
      status: () => status(name, this.pods),
      names: async (q) => {
        if (q.pod !== undefined && !this.pods.includes(q.pod))
          throw new AgentError('USAGE', `there is no pod ${q.pod} on this node`);
        const learned = this.pods.map((pod) => learnedName(pod, `${name}.example.com`));
        return { names: learned.slice(0, q.limit), more: learned.length > q.limit };
      },
      explain: (q) => {
        if (!this.pods.includes(q.from)) throw new AgentError('USAGE', `there is no pod ${q.from} on ${name}`);
        const verdict = { verdict: q.port === 443 ? 'allow' : 'deny', rule: 0, logged: [] };
        return { packet: q, sender: { selectable: true }, verdict, targets: [], summary: `says ${name}` } as never;
      },
      snapshot: () => {
        throw new Error('not asked for');
      },
      policies: () => [
        {
          kind: 'NetworkPolicy',
          namespace: 'shop',
          name: 'web',
          state: name === 'node-b' ? 'refused' : 'in-force',
          problems: [],
        },
      ],
      ...own,
    };
    this.server = new RpcServer({ hub: this.hub, view, log: quiet });
  }

  /** @param port 0: any */
  async listen(tlsDir?: string, port = 0): Promise<this> {
    const listener = await this.server.listenTls(`127.0.0.1:${port}`, tlsDir, { pollMs: 50 });
    this.port = listener.port ?? 0;
    return this;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** A flow of this node's, `ms` milliseconds after a common start. @returns what it is told apart by */
  publish(ms: number, over: Parameters<typeof event>[0] = {}): string {
    const uuid = `${this.name}-${this.#n++}`;
    const timeNs = 100e9 + ms * 1e6;
    this.hub.publish(flow({ uuid, nodeName: this.name, timeNs: BigInt(timeNs) + LEAD }, { timeNs, ...over }));
    return uuid;
  }
}
