/** egressctl status of the flow table. */
import t from 'tap';
import { statusText } from '../../src/cli/commands/status.js';
import type { Paint } from '../../src/cli/common/output.js';
import type { StatusResponse } from '../../src/proto/status.js';

type Endpoint = NonNullable<StatusResponse['endpoints']>[number];

function endpoint(pod: string, flows?: number): Endpoint {
  const held = flows === undefined ? {} : { flows };
  return { pod, uid: 'u', interface: 'veth', ifindex: 1, state: 'enforced', ...held };
}

function text(over: Partial<StatusResponse>, paint: Paint = (_, s) => s): string {
  const status: StatusResponse = {
    version: '1',
    node_name: 'n',
    mode: 'cluster',
    source: 's',
    pid: 1,
    started_at: { seconds: 0, nanos: 0 },
    uptime_ns: 0,
    attach_mode: 'tcx',
    deny_response: 'drop',
    maps: [{ name: 'flows', entries: '100', max: '1024' }],
    flows_in_table: '100',
    flow_share: 64,
    ...over,
  };
  return statusText(status, paint);
}

t.test('how full it is', async (t) => {
  t.match(
    text({ flows_evicted: '5', flows_busy: '2' }),
    /^Flow table: +9\.8% of 1024 entries, 64 for each endpoint in any case; 5 made room for others, 2 changes lost$/m,
  );
  t.match(text({ flows_in_table: '1000' }), /^Flow table: +98% of 1024 .*; 0 made room for others, 0 changes lost$/m);
  t.notMatch(text({}), /Not stored|Over share/, 'nothing to tell of');
  t.notMatch(text({ flow_share: undefined }), /Flow table/, 'an older agent does not say');
  t.notMatch(text({ maps: [] }), /Flow table/);
});

t.test('flows that found no room, and what to do', async (t) => {
  t.match(
    text({ flows_not_stored: '12' }),
    /^Not stored: +12 flows found no room .*: each packet is judged anew \(denied ones .* --map-size flows=2048\)$/m,
  );
  t.match(text({ flows_not_stored: 1 }), /^Not stored: +1 flow found no room/m);
  const style = (over: Partial<StatusResponse>) =>
    /^.*Not stored.*?<(\w+)>/m.exec(
      text({ flows_not_stored: 1, ...over }, (s, x) => (s === 'bold' ? x : `<${s}>${x}`)),
    )?.[1];
  t.equal(style({}), 'yellow', 'a pod that is denied much');
  t.equal(style({ flows_in_table: 1000 }), 'red', 'the table is short of room');
  t.equal(style({ endpoints: [endpoint('a/b', 65)] }), 'red');
});

t.test('the five that hold most beyond their share', async (t) => {
  const endpoints = [64, 70, undefined, 65, 900, 66, 80, 67].map((n, i) => endpoint(`a/p${i}`, n));
  t.match(text({ endpoints }), /^Over share: *a\/p4 900, a\/p6 80, a\/p1 70, a\/p7 67, a\/p5 66, 1 more$/m);
  t.match(text({ endpoints: endpoints.slice(0, 2) }), /^Over share: *a\/p1 70$/m);
  t.notMatch(text({ endpoints: endpoints.slice(0, 1) }), /Over share/, 'all of a share is none too many');
});

t.test('what connections say', async (t) => {
  t.notMatch(text({}), /Layer 7/, 'an older agent does not say');
  t.notMatch(text({ said: { inspected: '0' } }), /Layer 7/, 'no rule asks');
  const said = { inspected: '12', judged: '30', denied: '2', pending: 1 };
  t.match(text({ said }), /^Layer 7: +12 connections inspected, 1 pending; 30 judged, 2 denied$/m);
  t.notMatch(text({ said }), /Not judged|Lost layer 7/);
  t.match(text({ said: { ...said, audited: '4' } }), /2 denied, 4 pass in audit only$/m);
  const full = text({ said: { ...said, oversize: '3', without_buffer: '1', events_lost: '5' } });
  t.match(full, /^Not judged: +3 oversize: denied, 1 packet found no buffer: sent again by TCP and QUIC$/m);
  const ech = text({ said: { ...said, ech_without_room: '2' } });
  t.match(ech, /^Not judged: +2 configurations of ECH found no room: closed until they are over$/m);
  t.match(full, /^Lost layer 7: +5 reports of what connections say found no room$/m);
});

t.test('learned names', async (t) => {
  const maps = [{ name: 'names', entries: '900', max: '1024' }];
  const resolvers = Array.from({ length: 8 }, (_, i) => ({ address: `10.0.0.${i}`, port: 53, source: 'resolv.conf' }));
  const names = { names: 900, pages: 9, share: 32, page_share: 64, seeded: '3', resolvers };
  t.match(
    text({ maps, names }),
    /^Names: +900 known, 88% of the room, 32 for each endpoint in any case, 3 records resolved by the agent$/m,
  );
  t.match(
    text({ maps, names }),
    /^Resolvers: +10\.0\.0\.0:53 \(resolv\.conf\), .*10\.0\.0\.5:53 \(resolv\.conf\), 2 more$/m,
  );
  t.notMatch(text({ maps, names }), /Not learned|Not trusted/);
  const six = { ...names, resolvers: [{ address: 'fd00::53', port: 5353, source: '--dns-servers' }] };
  t.match(text({ names: six }), /^Resolvers: +\[fd00::53\]:5353 \(--dns-servers\)$/m);
  t.match(text({ names: { ...names, resolvers: [] } }), /none is trusted/);
  const endpoints = [{ ...endpoint('a/p1'), names_refused: '4', answers_untrusted: '1' }, endpoint('a/p2')];
  const bad = text({ endpoints, names: { ...names, refused: '5', overflow: '2', untrusted: '1' } });
  t.match(bad, /^Not learned: +5 found no room \(a\/p1 4\), 2 addresses with too many names$/m);
  t.match(bad, /^Not trusted: +1 DNS answer of others, or that nobody asked for \(a\/p1 1\)$/m);
  const seen = [
    { address: '8.8.8.8', port: 53, pod: 'a/p1', asked: '4' },
    { address: 'fd00::1', port: 53, pod: 'a/p2', asked: '1', untrusted: '3' },
  ];
  t.match(
    text({ names: { ...names, seen, dns_events_lost: '1' } }),
    /^Strangers: +8\.8\.8\.8:53 \(used by a\/p1\), \[fd00::1\]:53 \(3 answers to a\/p2\): not learned from\nLost queries: +1 report of/m,
  );
  t.notMatch(text({}), /Names|Resolvers/, 'an older agent does not say');
});
