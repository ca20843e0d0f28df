/**
 * A policy that refers to other objects is understood again when one of these changed, and only then: after any history of
 * tiers, network sets and CIDR groups the IR is the one of a fresh start, and what has nothing to do with a change is the same object.
 */
import { isDeepStrictEqual } from 'node:util';
import fc from '../seeded.js';
import t from 'tap';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import { buildSnapshot, SnapshotBuilder } from '../../src/identity/builder.js';
import type { ParsedObject } from '../../src/identity/fields.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { type ManifestDocument, parseManifest } from '../../src/identity/files/yaml.js';

const options = { nodeName: 'n', ownNodeIps: [] };
type Spec = Record<string, unknown>;

function object(apiVersion: string, kind: string, name: string, spec: Spec, more: Spec = {}): string {
  return `---\n${JSON.stringify({ apiVersion, kind, metadata: { name, ...more }, spec })}\n`;
}

const tier = (n: number, order: number) =>
  object('projectcalico.org/v3', 'Tier', `t${n}`, { order, defaultAction: order % 2 === 0 ? 'Pass' : 'Deny' });
const set = (n: number, label: number, net: string) =>
  object('projectcalico.org/v3', 'GlobalNetworkSet', `s${n}`, { nets: [net] }, { labels: { use: `u${label}` } });
const group = (n: number, label: number, net: string) =>
  object('cilium.io/v2', 'CiliumCIDRGroup', `g${n}`, { externalCIDRs: [net] }, { labels: { use: `u${label}` } });

const SELECTORS = [
  "pcsa.team == 't1'",
  "pcsa.team != 't0'",
  "use == 'u0'",
  "use in {'u1', 'u2'}",
  '!has(use)',
  "use != 'u0'",
  'all()',
  "name == 'x'",
];
const calico = (n: number, inTier: number, selector: string, side: string) =>
  object(
    ...(['projectcalico.org/v3', 'NetworkPolicy', `c${n}`] as const),
    {
      ...(inTier < 3 ? { tier: `t${inTier}` } : {}),
      ...{ order: n, selector: 'all()', types: ['Egress'] },
      egress: [
        { action: 'Deny', destination: { [side]: selector, namespaceSelector: 'global()' } },
        { action: 'Allow' },
      ],
    },
    { namespace: 'x' },
  );
const cilium = (n: number, rule: Spec) =>
  object(
    ...(['cilium.io/v2', 'CiliumNetworkPolicy', `m${n}`] as const),
    { endpointSelector: {}, egress: [{ toCIDRSet: [rule] }] },
    { namespace: 'x' },
  );

const account = (n: number, team: number) =>
  `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { namespace: 'x', name: `a${n}`, labels: { team: `t${team}` } } })}\n`;

const net = fc.constantFrom('10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16', 'not a net');
const small = fc.nat(2);
const document = fc.oneof(
  fc.tuple(small, fc.nat(3)).map(([n, order]) => tier(n, order)),
  fc.tuple(small, small, net).map(([n, label, block]) => set(n, label, block)),
  fc.tuple(small, small).map(([n, team]) => account(n, team)),
  fc.tuple(small, small, net).map(([n, label, block]) => group(n, label, block)),
  fc
    .tuple(fc.nat(3), fc.nat(3), fc.constantFrom(...SELECTORS), fc.constantFrom('selector', 'notSelector'))
    .map(([n, where, selector, side]) => calico(n, where, selector, side)),
  fc
    .tuple(
      fc.nat(3),
      fc.oneof(
        small.map((g): Spec => ({ cidrGroupRef: `g${g}` })),
        small.map((l): Spec => ({ cidrGroupSelector: { matchLabels: { use: `u${l}` } } })),
        fc.constant<Spec>({
          cidrGroupSelector: { matchExpressions: [{ key: 'use', operator: 'NotIn', values: ['u0'] }] },
        }),
        fc.constant<Spec>({ cidr: '10.9.0.0/16' }),
      ),
    )
    .map(([n, rule]) => cilium(n, rule)),
);

/** Follows a text's changes, as the source of manifests does. */
class Follower {
  readonly #builder = new SnapshotBuilder();
  readonly registry = new DialectRegistry();
  #documents: readonly ManifestDocument[] = [];

  take(text: string): ReturnType<DialectRegistry['toIr']> {
    this.#documents = parseManifest('f', text, this.#documents);
    return this.registry.toIr(this.#builder.build(objectsOf(this.#documents), options));
  }
}

function objectsOf(documents: readonly ManifestDocument[]): ParsedObject[] {
  return documents.flatMap((d) => d.objects);
}

function fresh(text: string): Snapshot {
  return buildSnapshot(objectsOf(parseManifest('f', text)), options);
}

t.test('after any history: what a fresh start would see', async (t) => {
  // Objects without errors: one that turns wrong keeps its last good state, which a fresh start does not know.
  const sound = document.filter((d) => !d.includes('not a net'));
  const states = fc.array(fc.uniqueArray(sound, { maxLength: 14 }), { minLength: 2, maxLength: 8 });
  fc.assert(
    fc.property(states, (sequence) => {
      const follower = new Follower();
      for (const state of sequence) {
        const text = [...[0, 1, 2].map((n) => tier(n, n)), ...state].join('');
        const { ir, problems } = follower.take(text);
        const expected = toIr(fresh(text));
        if (isDeepStrictEqual(ir, expected.ir) && isDeepStrictEqual(problems, expected.problems)) continue;
        throw new Error(`${JSON.stringify([ir, problems])}\nnot ${JSON.stringify([expected.ir, expected.problems])}`);
      }
    }),
    { numRuns: 300 },
  );
  t.pass('for 300 sequences');
});

t.test('with errors too: what understands everything again at each step would see', async (t) => {
  const states = fc.array(fc.uniqueArray(document, { maxLength: 14 }), { minLength: 2, maxLength: 8 });
  fc.assert(
    fc.property(states, (sequence) => {
      const follower = new Follower();
      const again = new DialectRegistry();
      for (const state of sequence) {
        const text = state.join('');
        const { ir, problems } = follower.take(text);
        // Nothing that it is given is the same object as before.
        const expected = again.toIr(fresh(text));
        if (isDeepStrictEqual(ir, expected.ir) && isDeepStrictEqual(problems, expected.problems)) continue;
        throw new Error(`${JSON.stringify([ir, problems])}\nnot ${JSON.stringify([expected.ir, expected.problems])}`);
      }
    }),
    { numRuns: 300 },
  );
  t.pass('for 300 sequences');
});

t.test('a change of a set, a group or a tier leaves alone what does not refer to it', async (t) => {
  const follower = new Follower();
  const state = (netOfSet: string, netOfGroup: string, order: number) =>
    [
      ...[tier(0, 0), tier(1, order), set(0, 0, netOfSet), set(1, 1, '10.1.0.0/16'), group(0, 0, netOfGroup)],
      ...[group(1, 1, '10.1.0.0/16'), calico(0, 0, "use == 'u0'", 'selector'), calico(1, 0, "use == 'u1'", 'selector')],
      ...[
        calico(2, 1, "name == 'x'", 'selector'),
        cilium(0, { cidrGroupRef: 'g0' }),
        cilium(1, { cidrGroupRef: 'g1' }),
      ],
    ].join('');
  const policies = (text: string) =>
    new Map(follower.take(text).ir.tiers.flatMap((tier) => tier.policies.map((p) => [p.ref.name, p] as const)));
  const changed = (a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>) =>
    [...b].filter(([name, p]) => a.get(name) !== p).map(([name]) => name);
  const first = policies(state('10.5.0.0/16', '10.5.0.0/16', 1));
  const second = policies(state('10.6.0.0/16', '10.5.0.0/16', 1));
  t.same(changed(first, second), ['c0']);
  const third = policies(state('10.6.0.0/16', '10.6.0.0/16', 1));
  t.same(changed(second, third), ['m0']);
  const fourth = policies(state('10.6.0.0/16', '10.6.0.0/16', 3));
  t.same(changed(third, fourth), ['c2']);
  const asking = calico(3, 0, "pcsa.team == 't1'", 'selector');
  const fifth = policies(state('10.6.0.0/16', '10.6.0.0/16', 3) + asking + account(0, 0));
  t.same(changed(fourth, fifth), ['c3']);
  const sixth = policies(state('10.6.0.0/16', '10.6.0.0/16', 3) + asking + account(0, 1));
  t.same(changed(fifth, sixth), ['c3']);
});
