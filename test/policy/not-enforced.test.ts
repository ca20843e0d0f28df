/**
 * No field is dropped in silence: for every field of every language, either the policy means something else with it, or a problem names
 * its path; and where that problem is an error, nothing opens that was closed.
 */
import t, { type Test } from 'tap';
import { toIr } from '../../src/dialects/index.js';
import type { Problem } from '../../src/errors.js';
import { evaluate } from '../../src/ir/evaluate.js';
import type { Said } from '../../src/ir/packet.js';
import { type Row, type Table, TABLES } from './field-tables.js';
import { VENDOR_TABLES } from './field-tables-vendors.js';
import { fieldsOf, mapsIn, pathsIn, plain, withField } from './fields.js';
import { namespace, packet, pod, snapshotOf } from './world.js';

const WORLD =
  namespace('default', { team: 'a' }) +
  namespace('other', { team: 'b' }) +
  pod('default/web', '10.1.0.1', { app: 'web' }) +
  pod('default/db', '10.1.0.2', { app: 'db' }) +
  pod('other/db', '10.1.0.3', { app: 'db' });

/** What connections say: nothing yet, and what some rows ask for. */
const SAID: readonly (Said | undefined)[] = [
  undefined,
  { kind: 'tls', serverName: 'example.com' },
  { kind: 'http', method: 'GET', path: '/', host: 'example.com', headers: [['host', 'example.com']] },
];

const PACKETS = ['default/web', 'default/db', 'other/db'].flatMap((from) =>
  [
    '10.1.0.2:80/tcp',
    '10.1.0.2:443/tcp',
    '10.1.0.3:443/tcp',
    '203.0.113.1:443/tcp',
    '203.0.113.1:443/udp',
    '198.51.100.1:80/tcp',
    '203.0.113.1/icmp',
  ].flatMap((to) => SAID.map((said) => ({ ...packet(from, to), ...(said ? { said } : {}) }))),
);

interface Seen {
  readonly meaning: string;
  readonly problems: readonly Problem[];
  readonly allowed: ReadonlySet<string>;
}

function see(object: object, beside: readonly object[] = []): Seen {
  const text = WORLD + [object, ...beside].map((o) => `---\n${JSON.stringify(o)}\n`).join('');
  const snapshot = snapshotOf(text);
  const { ir, problems } = toIr(snapshot);
  const open = PACKETS.filter((p) => evaluate(ir, snapshot, p).verdict === 'allow');
  return {
    meaning: JSON.stringify(ir),
    problems: [...snapshot.problems, ...problems],
    allowed: new Set(open.map((p) => JSON.stringify(p))),
  };
}

function check(t: Test, what: string, { base, beside }: Table, [path, value, outcome, named = path]: Row): void {
  const before = see(objectOf(base), beside);
  const after = see(withField(objectOf(base), path, value), beside);
  const says = `${what} ${path}: ${JSON.stringify(value)}`;
  const mine = after.problems.filter(({ where: { field } }) => field !== undefined && isUnder(field, named));
  const wanted = outcome === 'aside' ? 'error' : outcome;
  const changed = before.meaning !== after.meaning;
  const severity = mine.find((p) => p.severity === 'error') ?? mine[0];
  const found = severity?.severity ?? (changed ? 'means' : 'says nothing');
  const told = after.problems.map((p) => `${p.where.field} ${p.message}`).join('; ');
  t.equal(found, wanted, `${says} → ${outcome}${found === wanted ? '' : `: ${told}`}`);
  const errors = after.problems.filter((p) => p.severity === 'error');
  if (outcome === 'means') t.same(errors, [], `${says}: no error`);
  if (outcome === 'error') {
    t.same(
      [...after.allowed].filter((p) => !before.allowed.has(p)),
      [],
      `${says}: nothing opens`,
    );
  }
}

/** At or below the path. */
function isUnder(field: string, path: string): boolean {
  return field === path || field.startsWith(`${path}.`) || field.startsWith(`${path}[`);
}

function objectOf({ apiVersion, kind, ...rest }: Table['base']) {
  return { apiVersion, kind, metadata: { name: 'default', namespace: 'default' }, ...rest };
}

/** Fields that no row has: those of the schema itself, and one that nobody knows in every map of the rows' objects. */
function complete(t: Test, what: string, table: Table): void {
  const { base, rows, schema, beside } = table;
  t.same(see(objectOf(base), beside).problems, [], `${what}: the base has no problems`);
  const covered = new Set(rows.flatMap(([path, value]) => pathsIn(value, plain(path))));
  const root = base.spec ? 'spec' : 'specs[0]';
  const open = fieldsOf(specOf(schema), root).filter(
    (path) => !covered.has(path) && !rows.some(([p]) => isUnder(plain(p), path)),
  );
  t.same(open, [], `${what}: every field of the schema has a row`);
  // Of the rows that are understood, and of those that are refused as a whole: a misspelt field is named wherever it stands.
  const objects = [objectOf(base), ...rows.map(([path, value]) => withField(objectOf(base), path, value))];
  check(t, what, table, ['misspelt', 1, 'error']);
  const seen = new Set<string>();
  for (const object of objects as { spec?: unknown; specs?: unknown }[]) {
    for (const path of [...mapsIn(object.spec, 'spec'), ...mapsIn(object.specs, 'specs')]) {
      if (OPAQUE.some((o) => plain(path).includes(o)) || seen.has(plain(path))) continue;
      seen.add(plain(path));
      // Of what is itself no field, only that is said.
      const unknown = see(object, beside).problems.find(
        (p) => p.message.includes('is not a field') && isUnder(path, p.where.field ?? ''),
      );
      check(t, what, { ...table, base: object as Table['base'] }, [
        `${path}.misspelt`,
        1,
        'error',
        unknown?.where.field,
      ]);
    }
  }
}

/** A schema is that of an object, or of its spec alone. */
function specOf(schema: object): object {
  const { properties } = schema as { properties?: { spec?: object } };
  return properties?.spec ?? schema;
}

/** Maps whose keys are the user's; and what is not read since it is the other half. */
const OPAQUE = [
  'matchLabels',
  'ingress',
  'ingressDeny',
  '.labels[',
  '.metadata',
  '.kafka',
  '.l7[',
  'terminatingTLS',
  'originatingTLS',
  '.listener',
  'toGroups',
];

for (const [what, table] of Object.entries({ ...TABLES, ...VENDOR_TABLES })) {
  t.test(what, async (t) => {
    for (const row of table.rows) check(t, what, table, row);
    complete(t, what, table);
  });
}

t.test('what policies refer to', async (t) => {
  const told = (kind: string, spec: object, apiVersion = 'projectcalico.org/v3') => {
    const object = { apiVersion, kind, metadata: { name: 'x' }, spec };
    return see(object).problems.map((p) => `${p.severity} ${p.where.field}`);
  };
  t.same(told('NetworkSet', { allowedEgressDomains: ['example.com', '*.example.com'] }), []);
  t.same(told('NetworkSet', { allowedEgressDomains: ['a.*'] }), ['error spec.allowedEgressDomains[0]']);
  t.same(told('GlobalNetworkSet', { nets: [], misspelt: 1 }), ['error spec.misspelt']);
  t.same(told('NetworkSet', { net: ['10.0.0.0/8'] }), ['error spec.net']);
  t.same(told('Tier', { order: 1, misspelt: 1 }), ['error spec.misspelt']);
  t.same(told('Tier', { order: 1, defaultAction: 'Allow' }), ['error spec.defaultAction']);
  t.same(told('CiliumCIDRGroup', { externalCIDRs: [], misspelt: 1 }, 'cilium.io/v2'), ['error spec.misspelt']);
});
