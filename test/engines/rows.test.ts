/** Rows say which of their words are filled: what packets do not read holds nothing. */
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { Action, Rule } from '../../src/ir/types.js';
import { snapshot } from '../bench/worlds.js';
import { comparable, Evaluate, Kernel, Simulate, type World } from './engine.js';

const kernel = new Kernel();
const engines = [new Evaluate(), new Simulate(), kernel];
t.teardown(() => kernel.close());

const TCP = 6;
const A = '192.0.2.1';
const ref = { dialect: 'test', kind: 'Test', name: 'p' };

function rule(index: number, action: Action, ip: string | null, port: number | null): Rule {
  return {
    ref: { policy: ref, index, tier: 't', staged: false, action },
    action,
    peers: ip === null ? null : [{ kind: 'cidr', cidr: `${ip}/32`, except: [] }],
    ports: port === null ? null : [{ protocol: TCP, ports: [[port, port]] }],
  };
}

/** Rules that the address or the port has, in every word, but none has both; then those of `last`. */
function world(count: number, ...last: [Action, string | null, number | null][]): World {
  const rules = Array.from({ length: count }, (_, i) =>
    i % 2 === 0 ? rule(i, 'allow', A, 80) : rule(i, 'allow', '192.0.2.2', 443),
  );
  last.forEach(([action, ip, port], i) => rules.push(rule(count + i, action, ip, port)));
  return {
    snapshot: snapshot(),
    ir: {
      tiers: [
        {
          name: 't',
          order: 0,
          defaultAction: 'deny',
          policies: [
            { ref, staged: false, subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } }, rules },
          ],
        },
      ],
    },
  };
}

for (const count of [3, 62, 64, 130, 440, 640, 1500, 3900])
  t.test(`${count} rules of which none matches, and the ones behind`, async (t) => {
    for (const last of [
      [],
      [['allow', A, 443]],
      [
        ['deny', A, 443],
        ['allow', null, null],
      ],
      [
        ['log', A, null],
        ['log', A, 443],
        ['allow', A, 443],
      ],
      [
        ['pass', A, 443],
        ['allow', A, null],
      ],
    ] as [Action, string | null, number | null][][]) {
      const at = world(count, ...last);
      for (const engine of engines) engine.use(at);
      for (const [to, port] of [
        [A, 443],
        [A, 80],
        [A, 81],
        ['192.0.2.2', 443],
        ['192.0.2.3', 443],
      ] as const) {
        const packet = { from: 'default/web', to, protocol: TCP, port };
        const [first, ...others] = engines.map((e) => comparable(e.judge(packet), packet));
        for (const other of others) t.same(other, first, `${last.join(' ')}: ${to}:${port}`);
      }
    }
    t.same(kernel.store.verify(false), []);
  });

t.test('a summary that is wrong is found, and mended', async (t) => {
  const at = world(8, ['allow', A, 443]);
  kernel.use(at);
  const packet = { from: 'default/web', to: A, protocol: TCP, port: 443 };
  t.equal(kernel.judge(packet).verdict, 'allow');
  const rows = kernel.programs.maps.port_rules as BpfMap;
  for (const { keys, values, count } of [...rows.batches()])
    for (let i = 0; i < count; i++) {
      const value = Buffer.from(values.subarray(i * rows.valueSize, (i + 1) * rows.valueSize));
      value.fill(0, 0, 8);
      rows.update(Buffer.from(keys.subarray(i * rows.keySize, (i + 1) * rows.keySize)), value);
    }
  t.ok(kernel.store.verify(true).length > 0);
  t.same(kernel.store.verify(false), []);
  t.equal(kernel.judge(packet).verdict, 'allow');
});
