/** Leaving out what nobody reads: what is kept is what parsing all of it and taking the same would give. */
import fc from '../seeded.js';
import t from 'tap';
import { type Keep, keeper, keepOf, ofEvents, ofList } from '../../src/kube/client/keep.js';

/** What `keep` means, said with parsed values. */
function kept(value: unknown, keep: Keep): unknown {
  if (keep === true || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((v) => kept(v, keep));
  const entries = Object.entries(value).filter(([key]) => Object.hasOwn(keep, key));
  return Object.fromEntries(entries.map(([key, v]) => [key, kept(v, (keep as Record<string, Keep>)[key] as Keep)]));
}

const name = fc.constantFrom('a', 'b', 'ab', 'name', 'größe', '__proto__x', '');
const keeps = fc.letrec<{ keep: Keep }>((tie) => ({
  keep: fc.oneof(
    { depthSize: 'small' },
    fc.constant<Keep>(true),
    fc.dictionary(name, tie('keep')) as fc.Arbitrary<Keep>,
  ),
})).keep;
const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'medium' },
    fc.oneof(fc.string({ unit: 'binary' }), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean()),
    fc.constantFrom<unknown>(null, '"', '\\', '\\"', '}]', '{"a":[', 'x'.repeat(100), {}, []),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(name, tie('value'), { maxKeys: 5 }),
  ),
})).value;

t.test('what is kept is what was meant, however it is written', async (t) => {
  fc.assert(
    fc.property(values, keeps, fc.constantFrom('', ' ', '\t', '\n  '), (value, keep, space) => {
      const bytes = Buffer.from(JSON.stringify(value, null, space));
      const before = bytes.toString('hex');
      const out = JSON.parse(keeper(keep)(bytes).toString());
      // By way of text: -0 is 0 there.
      const wanted = JSON.parse(JSON.stringify(kept(JSON.parse(bytes.toString()), keep)));
      if (JSON.stringify(out) !== JSON.stringify(wanted))
        throw new Error(`${JSON.stringify(out)}\n${JSON.stringify(wanted)}`);
      if (bytes.toString('hex') !== before) throw new Error('the input was written');
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

t.test('what is no JSON stays as it is, or what is kept of it is no JSON, or the fault was left out', async (t) => {
  const keep = { a: true, b: { a: true } } as const;
  fc.assert(
    fc.property(values, fc.nat(), fc.nat(), fc.string({ minLength: 1, maxLength: 1 }), (value, at, cut, other) => {
      const text = JSON.stringify({ a: value, b: { a: 1, c: value }, c: value });
      // By way of bytes: half a character is another one there.
      const cutText = `${text.slice(0, at % text.length)}${other}${text.slice((at % text.length) + (cut % 3))}`;
      const bytes = Buffer.from(cutText);
      const broken = bytes.toString();
      const out = keeper(keep)(bytes).toString();
      try {
        JSON.parse(broken);
      } catch {
        return; // Whatever it is: it ends, and throws nothing of its own.
      }
      // A name may have become one with an escape, such as "\\b". Such a document is left whole, for the parser.
      if (out === broken && broken.includes('\\')) return;
      const wanted = JSON.stringify(kept(JSON.parse(broken), keep));
      if (JSON.stringify(JSON.parse(out)) !== wanted) throw new Error(`${broken}\n${out}`);
    }),
    { numRuns: 2000, examples: [[[], 986080963, 0, '\\']] },
  );
  for (const text of [
    '',
    ' ',
    '{',
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,}',
    '{"a":1}}',
    '{"b":{]',
    '[1,]',
    '{"c":[',
    '<html>',
  ]) {
    t.equal(keeper(keep)(Buffer.from(text)).toString(), text, text);
  }
  t.equal(
    keeper(keep)(Buffer.from('{"\\u0061":1}')).toString(),
    '{"\\u0061":1}',
    'a name that is written in another way',
  );
});

t.test('pods: what is read of them, in lists and in events', async (t) => {
  const pod = {
    metadata: {
      name: 'p',
      namespace: 'n',
      uid: 'u',
      resourceVersion: '7',
      labels: { a: 'b' },
      managedFields: [{ x: 1 }],
    },
    spec: { nodeName: 'x', containers: [{ name: 'c', env: [{}], ports: [{ containerPort: 80 }] }], volumes: [{}] },
    status: { phase: 'Running', podIP: '10.0.0.1', containerStatuses: [{}] },
  };
  const small = {
    metadata: { name: 'p', namespace: 'n', uid: 'u', resourceVersion: '7', labels: { a: 'b' } },
    spec: { nodeName: 'x', containers: [{ ports: [{ containerPort: 80 }] }] },
    status: { phase: 'Running', podIP: '10.0.0.1' },
  };
  const keep = keepOf('Pod') as Keep;
  const through = (keep: Keep, value: object) =>
    JSON.parse(keeper(keep)(Buffer.from(JSON.stringify(value))).toString());
  const list = { kind: 'PodList', apiVersion: 'v1', metadata: { resourceVersion: '9', continue: 'x' } };
  t.same(through(ofList(keep), { ...list, items: [pod, pod] }), { ...list, items: [small, small] });
  t.same(through(ofList(keep), { ...list, items: null }), { ...list, items: null });
  const event = (object: object) => ({ type: 'MODIFIED', object: { kind: 'Pod', apiVersion: 'v1', ...object } });
  t.same(through(ofEvents(keep), event(pod)), event(small));
  const gone = {
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    code: 410,
    reason: 'Expired',
    message: 'too old',
  };
  t.same(through(ofEvents(keep), { type: 'ERROR', object: { ...gone, metadata: {} } }), {
    type: 'ERROR',
    object: { ...gone, metadata: {} },
  });
  t.equal(keepOf('NetworkPolicy'), undefined, 'a policy is read whole: what is unknown in it is told');
});
