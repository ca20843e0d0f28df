/** diff where policies ask what connections say, against the reference. */
import t from 'tap';
import { describeSaid } from '../../src/explain/said.js';
import { outcomeOf } from '../../src/ir/outcome.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Action, Ir, Rule } from '../../src/ir/types.js';
import { NO_TUNNELS } from '../../src/net/tunnels.js';
import { type Change, diff } from '../../src/tools/diff.js';
import { saidKinds } from '../../src/tools/names/said.js';
import type { World } from '../../src/tools/packets.js';
import { type PortSpan, rangeContains } from '../../src/tools/ranges.js';
import { seeded } from '../fuzz/random.js';
import { pod, snapshotOf } from '../policy/world.js';

const random = seeded();
const snapshot = { ...snapshotOf(pod('shop/web', '10.1.0.1', { app: 'web' })), tunnels: NO_TUNNELS };
const TO = '203.0.113.7';
const TCP_443 = [{ protocol: 6, ports: [[443, 443]] }] as const;
const WORLD: Peer[] = [{ kind: 'cidr', cidr: '203.0.113.0/24', except: [] }];

type Body = Partial<Omit<Rule, 'ref'>> & { action?: Action };

function world(...bodies: Body[]): World {
  const ref = { dialect: 'test', kind: 'Test', name: 'p' };
  const rules = bodies.map(({ action = 'allow', ...body }, index): Rule => {
    const own = { policy: ref, index, tier: 'one', staged: false, action };
    return { peers: WORLD, ports: TCP_443, ...body, action, ref: own };
  });
  const subject = { namespaces: { names: ['shop'] }, pods: { op: 'in', key: 'app', values: ['web'] } } as const;
  const tier = {
    name: 'one',
    order: 0,
    policies: [{ ref, subject, rules, staged: false }],
    defaultAction: 'deny',
  } as const;
  return { ir: { tiers: [tier] } satisfies Ir, snapshot };
}

t.test(`what is told is what the reference says, FUZZ_SEED=${random.seed}`, async (t) => {
  const body = (): Body => ({
    action: random.pick<Action>(['allow', 'allow', 'deny', 'pass']),
    ...(random.chance(30) ? { peers: null } : {}),
    ...(random.chance(30) ? { ports: null } : {}),
    ...(random.chance(50) ? { serverNames: [random.pick(['a.example', '*.example', '***'])] } : {}),
    ...(random.chance(50)
      ? { http: [{ method: random.pick(['GET', 'GET|POST', '.*']), path: random.pick(['/', '/a.*', '.*']) }] }
      : {}),
  });
  let different = 0;
  for (let round = 0; round < 60; round++) {
    const worlds = [0, 1].map(() => world(...Array.from({ length: random.below(4) }, body))) as [World, World];
    const { changes } = diff(...worlds);
    const rules = worlds.flatMap(({ ir }) => ir.tiers.flatMap((tier) => tier.policies.flatMap((p) => p.rules)));
    const isMeant = ({ protocols, lo, hi, fragment }: PortSpan) =>
      protocols.includes(6) && lo <= 443 && 443 <= hi && !fragment;
    const isAbout = ({ to, ports, names }: Change) =>
      to.kind === 'addresses' &&
      to.ranges.some((range) => rangeContains(range, TO)) &&
      ports.some(isMeant) &&
      names === undefined;
    for (const said of saidKinds(rules)) {
      const packet = { from: 'shop/web', to: TO, protocol: 6, port: 443, said };
      const [was, is] = worlds.map(({ ir }) => outcomeOf(ir, snapshot, packet).verdict);
      const told = changes.filter((c) => isAbout(c) && c.was.verdict === was && c.is.verdict === is);
      if (was !== is) different++;
      if (was !== is && told.length === 0)
        t.fail(`round ${round}: ${JSON.stringify(said)}: ${was} → ${is} is not told`);
      const named = changes.filter((c) => isAbout(c) && c.says?.includes(describeSaid(said)));
      if (!named.every((c) => c.was.verdict === was && c.is.verdict === is))
        t.fail(`round ${round}: ${JSON.stringify(said)}: ${was} → ${is} is told otherwise`);
    }
  }
  t.ok(different > 50, `${different} differ`);
});
