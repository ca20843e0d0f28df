/** One pattern more among many: how long the agent's process can do nothing else. */
import { KernelMapStore } from '../../../agent/maps/store.js';
import { Compiler } from '../../../src/compile/index.js';
import type { Pod, Snapshot } from '../../../src/identity/snapshot.js';
import type { Ir, IrPolicy } from '../../../src/ir/types.js';
import { buildAutomaton } from '../../../src/names/automaton.js';
import { nameAtom } from '../../../src/names/pattern.js';
import { loadForTest } from '../../engines/engine.js';
import { atMost, median, progress, type Result } from '../result.js';
import { snapshot } from '../worlds.js';
import { pattern, policyOf } from './worlds.js';

const POLICIES = 10_000;
const PODS = 100;
const ROUNDS = 15;
const MOST_MS = 50;
const FIRST_MOST_MS = 300;

/** So many pods, and as many policies for each as make the sum; each policy has one pattern. */
function cluster(pods: number, policies: number): { ir: Ir; state: Snapshot } {
  const base = snapshot();
  const [web] = [...base.pods.values()] as [Pod];
  const all = Array.from({ length: pods }, (_, n): Pod => {
    const name = `web-${n}`;
    return { ...web, uid: name, name, labels: { app: name }, ips: [`10.244.${n >> 8}.${n & 255}`] };
  });
  const list = Array.from({ length: policies }, (_, n) => selecting(`names-${n}`, n % pods, [pattern(n)]));
  const ir: Ir = { tiers: [{ name: 'default', order: 0, defaultAction: 'deny', policies: list }] };
  return { ir, state: { ...base, pods: new Map(all.map((pod) => [`default/${pod.name}`, pod])) } };
}

/** A policy that lets one pod talk to names. */
function selecting(name: string, pod: number, patterns: readonly string[]): IrPolicy {
  const policy = policyOf(name, [{ peers: [{ kind: 'names', patterns }], ports: [{ protocol: 6 }] }]);
  const pods = { op: 'in', key: 'app', values: [`web-${pod}`] } as const;
  return { ...policy, subject: { namespaces: { names: ['default'] }, pods } };
}

/** Milliseconds of processor time: other processes do not count. */
function took(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

export interface Changes {
  /** Milliseconds: the first build of all patterns, the first Image with them, and each pattern more. */
  readonly built: number;
  readonly first: number;
  readonly changes: readonly number[];
  readonly builds: readonly number[];
}

/** Adds patterns one by one: exact names and wildcards of suffixes by turns. */
export function changes(policies = POLICIES, pods = PODS, rounds = ROUNDS): Changes {
  const atoms = Array.from({ length: policies }, (_, n) => nameAtom(pattern(n))).sort();
  const built = took(() => buildAutomaton(atoms));
  const programs = loadForTest();
  const store = new KernelMapStore(programs.maps);
  try {
    const { ir, state } = cluster(pods, policies);
    const compiler = new Compiler();
    const [tier] = ir.tiers;
    if (!tier) throw new Error('a world without a tier');
    const keys = [...state.pods.keys()];
    const bindings = keys.map((key, n) => ({
      ...{ key, uid: key, ifindex: n + 1, ifname: `veth${n}`, id: n + 1, mac: '', ips: state.pods.get(key)?.ips ?? [] },
      ...{ kind: 'pod' as const, l3: false },
    }));
    const apply = (list: readonly IrPolicy[]) => {
      store.apply(compiler.compile({ tiers: [{ ...tier, policies: list }] }, state, keys), bindings);
    };
    let list = tier.policies;
    const first = took(() => apply(list));
    const all: number[] = [];
    const builds: number[] = [];
    for (let n = 0; n < rounds; n++) {
      if (!store.settled) store.tidy();
      const name = n % 2 === 0 ? `one-more-${n}.example.org` : `*.one-more-${n}.example.org`;
      list = [...list, selecting(`more-${n}`, n % pods, [name])];
      all.push(took(() => apply(list)));
      atoms.push(nameAtom(name));
      builds.push(took(() => buildAutomaton(atoms)));
    }
    return { built, first, changes: all, builds };
  } finally {
    store.close();
    programs.close();
  }
}

export async function updates(): Promise<Result[]> {
  const { built, first, changes: all, builds } = changes();
  const middle = median(all);
  const text = `${Math.max(...all).toFixed(1)} ms at most of ${all.length}; ${median(builds).toFixed(1)} ms of it the automaton`;
  progress(`one pattern more: ${middle.toFixed(1)} ms; ${text}`);
  progress(`first automaton: ${built.toFixed(0)} ms; first Image with all of them in the maps: ${first.toFixed(0)} ms`);
  return [
    atMost(`one pattern more among ${POLICIES} policies with names`, middle, 'ms', text, MOST_MS),
    atMost('their first automaton', built, 'ms', `the first Image: ${first.toFixed(0)} ms`, FIRST_MOST_MS),
  ];
}
