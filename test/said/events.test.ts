/** What the programs report of what connections say, as the flows that users see. */
import t from 'tap';
import { sumOf } from '../../agent/serve/counters.js';
import { saidStatus } from '../../agent/serve/said.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { compact } from '../../src/cli/flows/format.js';
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import { decodeSaid } from '../../src/flow/event/said.js';
import type { Flow } from '../../src/flow/event/types.js';
import { toRecord } from '../../src/flow/hubble.js';
import { Intake } from '../../src/flow/intake.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { rulesById } from '../../src/ir/names.js';
import { never } from '../flow/hubs.js';
import { snapshot } from '../bench/worlds.js';
import { irOf, type Line, POD, SaidBed, SERVER } from './bed.js';
import { makeHello, records, serverName } from './make.js';

const RULES: readonly Line[] = [{ serverNames: ['good.example'] }];
const hello = (name?: string) => records(makeHello({ extensions: name === undefined ? [] : [serverName(name)] }), []);

/** The flows of what was told, with the names of the rules. */
async function flows(told: readonly Buffer[], lines: readonly Line[]): Promise<Flow[]> {
  const into = new Intake({ nodeName: 'node-a', stride: EVENT_SIZE });
  const [first] = told;
  const endpoint = first ? decodeSaid(first, 0).event.endpoint : 0;
  into.learn({
    snapshot: snapshot(),
    rules: rulesById(irOf(lines)),
    endpoints: new Map([[endpoint, { pod: 'default/web', uid: '' }]]),
  });
  for (const bytes of told) into.said(bytes, 0);
  const out: Flow[] = [];
  for await (const item of into.hub.read({}, never())) if ('flow' in item) out.push(item.flow);
  return out;
}

t.test('hellos in TLS', async (t) => {
  const bed = new SaidBed(RULES);
  t.teardown(() => bed.close());
  const counters = bed.kernel.programs.maps.counters as BpfMap;
  const before = saidStatus(counters, { pending: 0 }, { audited: 0 });
  bed.connect().send(0, hello('GOOD.example'));
  bed.connect().send(0, hello('evil.example'));
  bed.connect().send(0, hello());
  bed.connect().send(0, Buffer.from('SSH-2.0-OpenSSH\r\n'));
  const told = await flows(bed.told(), RULES);
  t.match(
    told.map(({ event, said, rule }) => ({ event, said, rule })),
    [
      {
        event: {
          type: 'said',
          verdict: 'allow',
          reason: 'rule',
          local: POD,
          remote: SERVER,
          remotePort: 443,
          protocol: 6,
        },
        said: { kind: 'tls', serverName: 'good.example', isCut: false },
        rule: { index: 0 },
      },
      { event: { verdict: 'deny', drops: 1 }, said: { kind: 'tls', serverName: 'evil.example' }, rule: { index: -1 } },
      { event: { verdict: 'deny' }, said: { kind: 'tls', serverName: '' } },
      { event: { verdict: 'deny' }, said: { kind: 'other' } },
    ],
  );
  const lines = told.map((flow) => compact(toRecord(flow), (_, s) => s));
  t.match(lines[0], / default\/web +→ 192\.0\.2\.80:443\/tcp +ALLOWED tls good\.example \S+#0$/);
  t.match(lines[1], /DENIED {2}tls evil\.example \S+#default$/);
  t.match(lines[2], /DENIED {2}tls without a name \S+#default$/);
  t.match(lines[3], /DENIED {2}neither TLS nor HTTP \S+#default$/);
  const now = saidStatus(counters, { pending: 3 }, { audited: 4 });
  t.match(now, { inspected: before.inspected + 4, judged: before.judged + 4, pending: 3, audited: 4, eventsLost: 0 });
});

t.test('texts of any length, one behind the other', async (t) => {
  const rules: readonly Line[] = [{ http: [{}] }];
  const bed = new SaidBed(rules);
  t.teardown(() => bed.close());
  // `GET a.b /…`: an event with a text of up to 128 bytes ends earlier.
  const lengths = [1, 118, 119, 120, 121, 300, 2, 502, 503, 504, 505, 900, 1025, 2100, 119, 3];
  const paths = lengths.map((n, i) => `/${String.fromCharCode(97 + i).repeat(n)}`);
  for (const path of paths) bed.connect().send(0, Buffer.from(`GET ${path} HTTP/1.1\r\nHost: a.b\r\n\r\n`));
  const told = await flows(bed.told(), rules);
  t.same(
    told.map(({ said }) => said?.path),
    paths.map((path) => path.slice(0, 512 - 'GET a.b '.length)),
  );
  t.same(
    told.map(({ said }) => said?.isCut),
    paths.map((path) => path.length > 512 - 'GET a.b '.length),
  );
});

t.test('a flood fills the ring, and what is lost is counted', async (t) => {
  const bed = new SaidBed(RULES);
  t.teardown(() => bed.close());
  const count = 6000;
  for (let i = 0; i < count; i++) bed.connect().send(0, hello(`n${i}.example`));
  const got = bed.told().length;
  const { EA_COUNT_SAID_EVENTS_LOST } = ENUMS.ea_counter;
  t.ok(got > 500, `${got} were reported`);
  t.equal(got + sumOf(bed.kernel.programs.maps.counters as BpfMap, EA_COUNT_SAID_EVENTS_LOST), count);
});
