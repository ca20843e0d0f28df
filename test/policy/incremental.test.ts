import { isDeepStrictEqual } from 'node:util';
import fc from '../seeded.js';
import t from 'tap';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import { buildSnapshot, SnapshotBuilder } from '../../src/identity/builder.js';
import type { ParsedObject } from '../../src/identity/fields.js';
import type { ManifestDocument } from '../../src/identity/files/yaml.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import { namespace, pod, policy } from './world.js';

/** A document, drawn from few names so that objects meet themselves again: changed, doubled, gone and back. */
const document = fc.oneof(
  fc.tuple(fc.nat(3), fc.nat(2)).map(([n, v]) => pod(`x/p${n}`, `10.0.0.${n + 1}`, { app: `v${v}` })),
  fc.nat(1).map((v) => namespace('x', { v: String(v) })),
  fc
    .tuple(fc.nat(4), fc.nat(2))
    .map(([n, v]) => policy(`x/np${n}`, { podSelector: {}, egress: [{ ports: [{ port: 80 + v }] }] })),
  fc.nat(3).map((n) => policy(`x/np${n}`, { podSelector: {}, policyTypes: ['Ingress'] })),
  fc
    .tuple(fc.nat(1), fc.nat(2))
    .map(
      ([n, v]) =>
        `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { namespace: 'x', name: `s${n}` }, spec: { clusterIP: `10.96.0.${n}`, selector: { app: `v${v}` }, ports: [{ port: 80 }] } })}\n`,
    ),
  fc.constantFrom(
    '---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n',
    '---\n# nothing\n',
    '---\nkind: Pod\n',
  ),
);
const options = { nodeName: 'n', ownNodeIps: ['192.168.0.1'] };

t.test('after any sequence of changes: what a fresh start would see', async (t) => {
  const states = fc.array(fc.array(document, { maxLength: 12 }), { minLength: 2, maxLength: 8 });
  fc.assert(
    fc.property(states, (sequence) => {
      const builder = new SnapshotBuilder();
      const registry = new DialectRegistry();
      let documents: readonly ManifestDocument[] = [];
      for (const state of sequence) {
        documents = parseManifest('f', state.join(''), documents);
        const objects: ParsedObject[] = documents.flatMap((d) => d.objects);
        const snapshot = builder.build(objects, options);
        const result = registry.toIr(snapshot);
        const fresh = parseManifest('f', state.join('')).flatMap((d) => d.objects);
        const expected = buildSnapshot(fresh, options);
        if (!isDeepStrictEqual(snapshot, expected)) fail(snapshot, expected);
        const ir = toIr(expected);
        if (!isDeepStrictEqual(result, ir)) fail(result, ir);
      }
    }),
    { numRuns: 300 },
  );
  t.pass('for 300 sequences');
});

t.test('the order of files has no say in the IR', async (t) => {
  const policies = fc.uniqueArray(fc.nat(30), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(policies, fc.array(fc.nat(1000)), (numbers, keys) => {
      const text = (n: number) =>
        policy(`x${n % 3}/np${n}`, { podSelector: {}, egress: [{ ports: [{ port: n + 1 }] }] });
      const ir = (list: readonly number[]) =>
        toIr(
          buildSnapshot(
            parseManifest('f', list.map(text).join('')).flatMap((d) => d.objects),
            options,
          ),
        ).ir;
      const shuffled = [...numbers].sort((a, b) => (keys[a % 7] ?? a) - (keys[b % 7] ?? b) || b - a);
      if (!isDeepStrictEqual(ir(numbers), ir(shuffled))) fail(numbers, shuffled);
    }),
    { numRuns: 200 },
  );
  t.pass('for 200 orders');
});

function fail(a: unknown, b: unknown): never {
  throw new Error(`${JSON.stringify(a)}\ndiffers from\n${JSON.stringify(b)}`);
}
