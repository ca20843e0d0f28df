/** Rules that ask what connections say: the three engines say the same. */
import t from 'tap';
import { Compiler } from '../../src/compile/index.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { simulate } from '../../src/image/simulate.js';
import type { LearnedName, Packet, Said } from '../../src/ir/packet.js';
import { type Peer, VERIFICATIONS } from '../../src/ir/peers.js';
import type { Action, HttpMatch, Ir, Rule } from '../../src/ir/types.js';
import { pod, snapshotOf } from '../policy/world.js';
import { type Random, seeded } from '../fuzz/random.js';
import { comparable, Kernel } from './engine.js';

const random = seeded();
const snapshot = snapshotOf(pod('default/web', '10.0.0.1', {}));
const PATTERNS = ['a.example', '*.example', '**.example', 'b.example', '***', 'c.*.example', '**'];
const NAMES = ['a.example', 'b.example', 'x.a.example', 'c.d.example', 'other.org', 'c.example'];
const METHODS = ['GET', 'POST', 'GET|HEAD', '[A-Z]+'];
const PATHS = ['/', '/a.*', '/a/[0-9]+', '/(a|b)', '.*', '/a\\?q=.*'];
const HOSTS = ['a\\.example', '.*\\.example(:80)?', '.*'];
const HEADERS = ['x-one', 'accept'];
const VALUES = ['1', '[0-9]+', '.*', '1,2'];

function rule(r: Random, index: number): Rule {
  const action = r.pick<Action>(['allow', 'allow', 'allow', 'deny', 'pass', 'log']);
  const policy = { dialect: 'test', kind: 'Test', namespace: 'default', name: 'p' };
  const names = (): Peer => ({
    kind: 'names',
    patterns: [r.pick(PATTERNS), r.pick(PATTERNS)],
    ...(r.chance(70) ? { verify: r.pick(VERIFICATIONS) } : {}),
  });
  const cidr: Peer = { kind: 'cidr', cidr: r.pick(['203.0.113.0/24', '0.0.0.0/0']), except: [] };
  const peers = r.pick<readonly Peer[] | null>([
    null,
    [names()],
    [names(), cidr],
    [cidr],
    [{ kind: 'all', of: [names(), cidr] }],
  ]);
  return {
    ref: { policy, index, tier: 'default', staged: false, action },
    action,
    peers,
    ports: r.chance(50) ? null : [{ protocol: r.pick([6, 17, null]), ports: [[443, 443]] }],
    ...(r.chance(40) ? { serverNames: r.chance(5) ? [] : [r.pick(PATTERNS), r.pick(PATTERNS)] } : {}),
    ...(r.chance(40) ? { http: Array.from({ length: r.below(4) }, () => match(r)) } : {}),
    ...(r.chance(10) ? { queries: ['a.example'] } : {}),
    ...(r.chance(25) ? { quic: 'reject' as const } : {}),
  };
}

function match(r: Random): HttpMatch {
  return {
    ...(r.chance(50) ? { method: r.pick(METHODS) } : {}),
    ...(r.chance(50) ? { path: r.pick(PATHS) } : {}),
    ...(r.chance(30) ? { host: r.pick(HOSTS) } : {}),
    ...(r.chance(40)
      ? {
          headers: Array.from({ length: 1 + r.below(2) }, () => ({
            name: r.pick(HEADERS),
            ...(r.chance(70) ? { value: r.pick(VALUES) } : {}),
            ...(r.chance(30) ? { not: true as const } : {}),
          })),
        }
      : {}),
  };
}

function said(r: Random): Said | undefined {
  const kind = r.below(5);
  if (kind === 0) return undefined;
  if (kind === 1) return { kind: 'other' };
  if (kind === 2 && r.chance(15)) return { kind: 'tls', hidden: true };
  if (kind === 2) return r.chance(20) ? { kind: 'tls' } : { kind: 'tls', serverName: r.pick(NAMES) };
  return {
    kind: 'http',
    method: r.pick(['GET', 'POST', 'HEAD', 'get']),
    path: r.pick(['/', '/a', '/a/12', '/b', '/c', '/a?q=1']),
    ...(r.chance(80) ? { host: r.pick(['a.example', 'A.example:80', 'b.example', '192.0.2.1']) } : {}),
    headers: Array.from({ length: r.below(4) }, () => [r.pick(HEADERS), r.pick(['1', '2', '', 'x'])] as const),
  };
}

/** Whether the kernel can be asked: hellos and requests are said over these protocols. */
function isHeard({ said, protocol, fragment }: Packet): boolean {
  if (fragment) return false;
  if (said === undefined || said.kind === 'other') return true;
  return protocol === 6 || (protocol === 17 && said.kind === 'tls');
}

const kernel = new Kernel();
t.teardown(() => kernel.close());

t.test(`the engines say the same (FUZZ_SEED=${random.seed})`, async (t) => {
  let [heard, differ] = [0, 0];
  const rounds = 150;
  for (let round = 0; round < rounds; round++) {
    const rules = Array.from({ length: 1 + random.below(7) }, (_, i) => rule(random, i));
    const half = random.below(rules.length + 1);
    const subject = { namespaces: { labels: { op: 'true' } }, pods: { op: 'true' } } as const;
    const tier = (name: string, order: number, some: readonly Rule[], staged: boolean) => ({
      ...{ name, order, defaultAction: random.pick(['deny', 'pass'] as const) },
      policies: [
        {
          ref: { dialect: 'test', kind: 'Test', namespace: 'default', name: `p${order}` },
          subject,
          rules: some,
          staged,
        },
      ],
    });
    const own = (some: readonly Rule[], order: number) =>
      some.map((one) => ({ ...one, ref: { ...one.ref, policy: { ...one.ref.policy, name: `p${order}` } } }));
    const ir: Ir = {
      tiers: [
        tier('first', 1, own(rules.slice(0, half), 1), random.chance(20)),
        tier('default', 2, own(rules.slice(half), 2), random.chance(20)),
      ],
    };
    const image = new Compiler().compile(ir, snapshot, ['default/web']);
    for (let n = 0; n < 40; n++) {
      const says = said(random);
      const packet: Packet = {
        ...{ from: 'default/web', to: random.pick(['203.0.113.1', '198.51.100.1']) },
        ...{ protocol: random.pick([6, 6, 17, 1]), port: random.pick([443, 80]) },
        ...(says && { said: says }),
        ...(random.chance(5) ? { fragment: true } : {}),
      };
      const names: LearnedName[] = random.chance(50) ? [{ name: random.pick(NAMES) }] : [];
      const learned = new Map([['default/web', new Map([[packet.to, names]])]]);
      const wanted = evaluate(ir, snapshot, packet, learned);
      const got = simulate(image, packet, ['10.0.0.1'], learned);
      if (JSON.stringify(got) !== JSON.stringify(wanted)) {
        t.same(got, wanted, JSON.stringify({ packet, names, ir }, null, 1));
        return;
      }
      if (isHeard(packet) && n < 15) {
        kernel.use({ ir, snapshot, learned });
        const told = kernel.judge(packet);
        // Of a handshake nothing is told as long as what follows decides.
        const isPending = packet.protocol === 6 && !packet.said && told.verdict === 'partial';
        if (isPending && wanted.verdict === 'allow') continue;
        if (JSON.stringify(comparable(told, packet)) !== JSON.stringify(comparable(wanted, packet))) {
          t.same(comparable(told, packet), comparable(wanted, packet), JSON.stringify({ packet, names, ir }, null, 1));
          return;
        }
      }
      if (!says) continue;
      heard++;
      const { said: _, ...silent } = packet;
      if (evaluate(ir, snapshot, silent, learned).rule !== wanted.rule) differ++;
    }
  }
  t.ok(differ > heard / 50, `what is said decides: ${differ} of ${heard}`);
});
