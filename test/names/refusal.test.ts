/** How refused DNS queries are answered: by the policies, and in the kernel as they say. */
import t from 'tap';
import { NAME_DEFAULTS, nameSettings } from '../../agent/names/settings.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import { explain } from '../../src/explain/explain.js';
import { evaluate } from '../../src/ir/evaluate.js';
import type { DnsRefusal, Ir, IrPolicy, Rule } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { IFINDEX, Kernel, Simulate, SKB_IFINDEX, SKB_SIZE } from '../engines/engine.js';
import { encodeMessage, udpFrame } from './wire.js';

const SERVER = '192.0.2.53';
const POD = '10.244.0.1';
const RCODES = ['nodata', '', '', 'nxdomain', '', 'refused'];

type Line = { readonly action: 'allow' | 'deny'; readonly queries?: readonly string[] };

function policy(name: string, dnsRefusal: DnsRefusal | undefined, lines: readonly Line[], more = {}): IrPolicy {
  const ref = { dialect: 'test', kind: 'Test', namespace: 'default', name };
  return {
    ref,
    staged: false,
    subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } },
    rules: lines.map(
      ({ action, queries }, index): Rule => ({
        ref: { policy: ref, index, tier: 'default', staged: false, action },
        action,
        peers: null,
        ports: [{ protocol: 17, ports: [[53, 53]] }],
        ...(queries ? { queries } : {}),
      }),
    ),
    ...(dnsRefusal ? { dnsRefusal } : {}),
    ...more,
  };
}

const asks: Line = { action: 'allow', queries: ['*.ok.example'] };
/** Policies in order, the agent's option, and how a query for bad.example is answered: by whom it is said. */
const WORLDS: readonly [string, readonly IrPolicy[], DnsRefusal, DnsRefusal, 'option'?][] = [
  ['nobody says anything', [policy('a', undefined, [asks])], 'nodata', 'nodata', 'option'],
  ['the policy that isolates', [policy('a', 'nxdomain', [asks])], 'refused', 'nxdomain'],
  ['refused, where the option says otherwise', [policy('a', 'refused', [asks])], 'nodata', 'refused'],
  [
    'the first that says anything',
    [policy('a', undefined, [asks]), policy('b', 'nodata', []), policy('c', 'nxdomain', [asks])],
    'refused',
    'nodata',
  ],
  [
    'one that does not isolate has no say',
    [policy('a', 'nodata', [asks], { isolates: false }), policy('b', 'nxdomain', [])],
    'refused',
    'nxdomain',
  ],
  [
    'one that is staged has no say',
    [policy('a', 'nodata', [asks], { staged: true }), policy('b', 'nxdomain', [asks])],
    'refused',
    'nxdomain',
  ],
  [
    'an explicit rule, for its policy alone',
    [policy('a', 'nodata', [asks]), policy('b', 'nxdomain', [{ action: 'deny', queries: ['bad.example'] }])],
    'refused',
    'nxdomain',
  ],
  [
    'an explicit rule of a policy that says nothing',
    [policy('a', 'nodata', [asks]), policy('b', undefined, [{ action: 'deny' }])],
    'nxdomain',
    'nxdomain',
    'option',
  ],
];

const irOf = (policies: readonly IrPolicy[]): Ir => ({
  tiers: [{ name: 'default', order: 0, defaultAction: 'deny', policies }],
});

t.test('in the kernel', async (t) => {
  const kernel = new Kernel();
  t.teardown(() => kernel.close());
  const ctx = Buffer.alloc(SKB_SIZE);
  ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
  let sport = 2000;
  for (const [name, policies, option, expected, by] of WORLDS) {
    const world = { ir: irOf(policies), snapshot: snapshot() };
    const packet = { from: 'default/web', to: SERVER, protocol: 17, port: 53, query: 'bad.example' };
    const explained = explain(world.ir, world.snapshot, packet);
    t.equal(explained.answer, by ?? expected, `explained: ${name}`);
    t.equal(explained.verdict.verdict, 'deny');
    const image = new Simulate();
    image.use(world);
    const verdict = image.judge(packet);
    t.same(verdict, evaluate(world.ir, world.snapshot, packet), 'the verdict is the same');
    const rules = [...image.image.sets.values()].flatMap((set) => set.rules.filter((r) => r.id === verdict.rule));
    t.same([...new Set(rules.map((r) => r.dnsRefusal ?? 'option'))], [by ?? expected], `in the Image: ${name}`);

    kernel.use(world);
    kernel.become('default/web');
    kernel.programs.names.configure(nameSettings({ ...NAME_DEFAULTS, dnsRefusal: option }, 128));
    // Twice: what was decided a moment ago is remembered with its answer.
    for (const again of ['', ', again']) {
      const query = encodeMessage({ id: 7, flags: 0x0100, questions: [{ name: 'bad.example', type: 1 }] });
      const bytes = udpFrame({ src: POD, sport: ++sport, dst: SERVER, dport: 53 }, query);
      const { dataOut } = kernel.programs.programs.fromPod.testRun(bytes, { ctx, dataOutSize: 512 });
      const message = dataOut.subarray(14 + 20 + 8);
      t.equal((message[2] as number) >> 7, 1, 'it is an answer');
      t.equal(RCODES[(message[3] as number) & 15], expected, `${name}${again}`);
    }
  }
});

const cnp = (name: string, annotation: unknown, more: object = {}) => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  namespace: 'default',
  name,
  where: { object: `CiliumNetworkPolicy default/${name}` },
  object: {
    metadata: {
      namespace: 'default',
      name,
      ...(annotation === undefined ? {} : { annotations: { 'egress-agent.io/dns-refusal': annotation } }),
    },
    spec: { endpointSelector: {}, egress: [{ toCIDR: ['192.0.2.0/24'] }], ...more },
  },
});

function snapshotOf(policies: readonly ReturnType<typeof cnp>[]): Snapshot {
  return { ...snapshot(), policies };
}

t.test('the annotation', async (t) => {
  const said = (ir: Ir) => ir.tiers.flatMap((tier) => tier.policies.map((p) => p.dnsRefusal ?? '-'));
  for (const value of ['refused', 'nxdomain', 'nodata']) {
    const { ir, problems } = toIr(snapshotOf([cnp('a', value)]));
    t.same([said(ir), problems], [[value], []]);
  }
  for (const value of ['NXDOMAIN', '', 5]) {
    const { ir, problems } = toIr(snapshotOf([cnp('a', value)]));
    t.same(said(ir), ['-'], 'the option stays in force');
    t.match(problems, [
      {
        severity: 'warning',
        where: {
          object: 'CiliumNetworkPolicy default/a',
          field: 'metadata.annotations["egress-agent.io/dns-refusal"]',
        },
        message: /is not a way to refuse DNS queries: the agent's --dns-refusal stays in force/,
        hint: 'write refused, nxdomain or nodata',
      },
    ]);
  }
});

t.test('it follows the object, and stays with the last good version', async (t) => {
  const registry = new DialectRegistry();
  const said = (...policies: ReturnType<typeof cnp>[]) =>
    registry.toIr(snapshotOf(policies)).ir.tiers.flatMap((tier) => tier.policies.map((p) => p.dnsRefusal ?? '-'));
  t.same(said(cnp('a', 'nxdomain')), ['nxdomain']);
  t.same(said(cnp('a', 'nodata')), ['nodata']);
  t.same(said(cnp('a', 'refused', { egress: 'everywhere' })), ['nodata']);
  t.same(said(cnp('a', undefined)), ['-']);
});
