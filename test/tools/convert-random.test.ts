/**
 * Random policies of every language into every other. The proof sees no pods but those that it makes up; whether what it let pass is right is
 * asked of random packets in a random cluster that it has not seen.
 */
import t from 'tap';
import { TARGETS } from '../../src/convert/terms/common.js';
import { snapshotOf } from '../policy/world.js';
import type { RawPolicy, Snapshot } from '../../src/identity/snapshot.js';
import { type Random, seeded } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';
import { randomCilium, randomGroup } from '../policy/cilium-random.js';
import { converted, differences, IN_CLUSTER, type Taken } from './convert-check.js';

t.setTimeout(600_000);
const random = seeded();

const CIDRS = ['0.0.0.0/0', '::/0', '10.0.0.0/8', '10.244.0.2/31', '192.0.2.0/24', '192.0.2.128/25', '192.0.2.200/29'];
const PORTS = ['80', '443', '1023', '8080'];

/** Ordered rules over what several languages have words for. */
function ordered(r: Random, n: number): object {
  const rule = (actions: readonly string[]) => ({ action: r.pick(actions), cidr: r.pick(CIDRS), port: r.pick(PORTS) });
  const app = r.pick(['web', 'db', 'ops']);
  const pods = r.chance(40);
  if (r.chance(50)) {
    const egress = Array.from({ length: 1 + r.below(3) }, () => {
      const { action, cidr, port } = rule(['Accept', 'Accept', 'Deny', 'Pass']);
      const to = pods ? { pods: { podSelector: { matchLabels: { app } } } } : { networks: [cidr] };
      const number = Number(port);
      return { action, to: [to], ...(r.chance(50) ? { protocols: [{ tcp: { destinationPort: { number } } }] } : {}) };
    });
    const rest = r.chance(40) ? [{ action: 'Deny', to: [{ networks: ['0.0.0.0/0', '::/0'] }] }] : [];
    const names = { 'kubernetes.io/metadata.name': r.pick(['default', 'other']) };
    const subject = { namespaces: r.chance(50) ? {} : { matchLabels: names } };
    const spec = { tier: r.pick(['Admin', 'Baseline']), priority: r.below(3), subject, egress: [...egress, ...rest] };
    const apiVersion = 'policy.networking.k8s.io/v1alpha2';
    return { apiVersion, kind: 'ClusterNetworkPolicy', metadata: { name: `cnp${n}` }, spec };
  }
  const egress = Array.from({ length: 1 + r.below(3) }, () => {
    const { action, cidr, port } = rule(['Allow', 'Allow', 'Deny', 'Pass']);
    const wide = r.chance(50) ? { namespaceSelector: 'all()' } : {};
    const to = pods ? { selector: `app == '${app}'`, ...wide } : { nets: [cidr] };
    const l4 = r.chance(50) ? { protocol: 'TCP' } : {};
    const ports = 'protocol' in l4 ? { ports: [Number(port)] } : {};
    return { action, ...l4, destination: { ...to, ...ports } };
  });
  const global = r.chance(50);
  const spec = { order: r.below(3), selector: r.pick(['all()', "app == 'web'", "app != 'web'", 'has(app)']), egress };
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: global ? 'GlobalNetworkPolicy' : 'NetworkPolicy',
    metadata: { name: `calico${n}`, ...(global ? {} : { namespace: 'default' }) },
    spec: { ...spec, types: ['Egress'] },
  };
}

/** A cluster and its policies. */
function given(r: Random): Snapshot {
  let { snapshot } = randomWorld(r);
  while (r.chance(50) && snapshot.policies.length === 0) snapshot = randomWorld(r).snapshot;
  const more = Array.from({ length: r.below(3) }, (_, n) => (r.chance(40) ? randomCilium(r, n) : ordered(r, n)));
  const text = [...more, randomGroup(r)].map((object) => `---\n${JSON.stringify(object)}\n`).join('');
  const policies: RawPolicy[] = [...snapshot.policies.slice(0, 3), ...snapshotOf(text).policies];
  return { ...snapshot, policies };
}

t.test(`a reason, or the same verdicts, FUZZ_SEED=${random.seed}`, async (t) => {
  // What is repeated goes on to where it failed, however slow the machine is.
  const until = process.env.FUZZ_SEED === undefined ? Date.now() + 20_000 : Number.POSITIVE_INFINITY;
  let made = 0;
  let refused = 0;
  for (let n = 0; n < 150 && Date.now() < until; n++) {
    const snapshot = given(random);
    const to = random.pick(TARGETS);
    const taken: Taken = { ...(random.chance(70) ? { cluster: IN_CLUSTER } : {}), ignoreOwn: random.chance(70) };
    // What the manifests say of namespaces is known; pods, nodes and Services are not.
    const blind = { ...snapshot, pods: new Map(), nodes: new Map(), services: new Map() };
    const conversion = converted(blind, to, taken);
    made += conversion.converted.length;
    refused += conversion.refused.length;
    const silent = conversion.refused.filter((one) => one.reasons.length === 0);
    if (silent.length > 0) return t.fail(`${silent[0]?.source.title} has no reason`);
    const packets = Array.from({ length: 300 }, () => randomPacket(random, snapshot));
    const found = differences(snapshot, conversion, packets, taken);
    if (found.length === 0) continue;
    const policies = snapshot.policies.map((raw) => JSON.stringify(raw.object)).join('\n');
    return t.fail(`${found[0]} → ${to} ${JSON.stringify(taken)}\n${policies}`, { found: found.slice(0, 3) });
  }
  t.ok(made > 0 && refused > 0, `${made} were converted, ${refused} refused`);
});
