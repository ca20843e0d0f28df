import t from 'tap';
import { applyFieldMask, timestamp, toHubble, toRecord } from '../../src/flow/hubble.js';
import type { Flow, FlowEvent, Party } from '../../src/flow/event/types.js';
import { DEFAULT_RULE } from '../../src/ir/types.js';
import type { HubbleFlow } from '../../src/proto/messages.js';
import { flow, LEAD, rule, WEB, WORLD } from './flows.js';

t.test('a flow in Hubble’s terms', async (t) => {
  const f = flow({ rule: rule() }, { macSource: 'aa:bb:cc:dd:ee:01', macDestination: 'aa:bb:cc:dd:ee:02' });
  const labels = ['k8s:app=web', 'k8s:tier=front', 'k8s:io.kubernetes.pod.namespace=shop'];
  const allowedBy = [
    { name: 'web', namespace: 'shop', kind: 'NetworkPolicy', labels: ['egress-agent.io/rule=np/shop/web#2'] },
  ];
  const message = toHubble(f);
  t.same(message, {
    time: { seconds: String(LEAD / 1_000_000_000n + 100n), nanos: 0 },
    verdict: 'FORWARDED',
    ethernet: { source: 'aa:bb:cc:dd:ee:01', destination: 'aa:bb:cc:dd:ee:02' },
    IP: { source: '10.0.0.1', destination: '192.0.2.1', ipVersion: 'IPv4' },
    l4: { TCP: { source_port: 40000, destination_port: 443, flags: { SYN: true } } },
    source: {
      ID: 1,
      identity: message.source?.identity,
      namespace: 'shop',
      labels,
      pod_name: 'web-1',
      workloads: [{ kind: 'Deployment', name: 'web' }],
    },
    destination: { identity: 2, labels: ['reserved:world'] },
    Type: 'L3_L4',
    node_name: 'node-a',
    event_type: { type: 5, sub_type: 0 },
    traffic_direction: 'EGRESS',
    is_reply: { value: false },
    interface: { index: 7 },
    uuid: f.uuid,
    egress_allowed_by: allowedBy,
    Summary: 'TCP Flags: SYN',
  });
  t.equal(toHubble(f), message, 'made once');
});

t.test('verdict, event type and drop reason', async (t) => {
  const rows: [string, Partial<FlowEvent>, Partial<Flow>, Partial<HubbleFlow>][] = [
    ['allowed', {}, {}, { verdict: 'FORWARDED', event_type: { type: 5, sub_type: 0 } }],
    ['allowed after a change', { type: 'changed' }, {}, { verdict: 'FORWARDED', event_type: { type: 5, sub_type: 0 } }],
    [
      'denied by a rule',
      { verdict: 'deny', reason: 'rule' },
      { rule: rule({ action: 'deny' }) },
      { verdict: 'DROPPED', event_type: { type: 5, sub_type: 0 }, drop_reason_desc: 'POLICY_DENY' },
    ],
    [
      'allowed by none',
      { verdict: 'deny', reason: 'rule' },
      { rule: rule({ index: DEFAULT_RULE, action: 'deny' }) },
      { verdict: 'DROPPED', drop_reason_desc: 'POLICY_DENIED' },
    ],
    [
      'its rule is not known any more',
      { verdict: 'deny', reason: 'rule', rule: 4711 },
      {},
      { verdict: 'DROPPED', drop_reason_desc: 'POLICY_DENIED' },
    ],
    [
      // Clients name a drop by its sub type.
      'later drops',
      { type: 'drop', verdict: 'deny', reason: 'rule' },
      { rule: rule({ action: 'deny' }) },
      { event_type: { type: 1, sub_type: 181 }, drop_reason_desc: 'POLICY_DENY' },
    ],
    [
      'later drops, allowed by none',
      { type: 'drop', verdict: 'deny', reason: 'rule' },
      {},
      { event_type: { type: 1, sub_type: 133 }, drop_reason_desc: 'POLICY_DENIED' },
    ],
    [
      'spoofed',
      { type: 'drop', verdict: 'deny', reason: 'spoofed-address' },
      {},
      { event_type: { type: 1, sub_type: 132 }, drop_reason_desc: 'INVALID_SOURCE_IP' },
    ],
    [
      'spoofed below',
      { type: 'drop', verdict: 'deny', reason: 'spoofed-mac' },
      {},
      { event_type: { type: 1, sub_type: 130 }, drop_reason_desc: 'INVALID_SOURCE_MAC' },
    ],
    [
      'not to be parsed',
      { type: 'drop', verdict: 'deny', reason: 'malformed' },
      {},
      { event_type: { type: 1, sub_type: 134 }, drop_reason_desc: 'INVALID_PACKET_DROPPED' },
    ],
    ...(
      [
        ['no-owner', 172, 'UNKNOWN_SENDER'],
        ['encapsulation', 170, 'ENCAPSULATION_TRAFFIC_IS_PROHIBITED'],
        ['spoofed-neighbour', 132, 'INVALID_SOURCE_IP'],
        ['next-hop', 131, 'INVALID_DESTINATION_MAC'],
        ['checksum-offload', 134, 'INVALID_PACKET_DROPPED'],
        ['unreadable-answer', 134, 'INVALID_PACKET_DROPPED'],
        ['unreadable-hello', 134, 'INVALID_PACKET_DROPPED'],
        ['unreadable-request', 134, 'INVALID_PACKET_DROPPED'],
        ['retold', 134, 'INVALID_PACKET_DROPPED'],
        ['unsaid', 133, 'POLICY_DENIED'],
        ['encrypted-hello', 133, 'POLICY_DENIED'],
      ] as const
    ).map(([reason, sub_type, drop_reason_desc]): (typeof rows)[number] => [
      reason,
      { type: 'drop', verdict: 'deny', reason },
      {},
      { event_type: { type: 1, sub_type }, drop_reason_desc },
    ]),
    ['the end', { type: 'end' }, {}, { verdict: 'FORWARDED', event_type: { type: 4, sub_type: 5 } }],
    ['the end, seen at the door', { type: 'end', hook: 'to-pod' }, {}, { event_type: { type: 4, sub_type: 0 } }],
    ['of the node itself', { type: 'end', hook: 'uplink' }, {}, { event_type: { type: 4, sub_type: 11 } }],
    [
      'a rule that logs',
      { type: 'log', verdict: 'none' },
      { rule: rule({ action: 'log' }) },
      { verdict: 'TRACED', event_type: { type: 4, sub_type: 5 }, policy_log: ['np/shop/web#2'] },
    ],
  ];
  for (const [name, e, over, expected] of rows) {
    const message = toHubble(flow(over, e));
    t.match(message, expected, name);
    if (!('drop_reason_desc' in expected)) t.notOk('drop_reason_desc' in message, `${name}: no drop reason`);
  }
});

t.test('policies', async (t) => {
  const staged = rule({
    index: 0,
    staged: true,
    action: 'deny',
    policy: { dialect: 'c', kind: 'ClusterNetworkPolicy', name: 'x' },
  });
  const denied = toHubble(flow({ rule: rule({ action: 'deny' }) }, { verdict: 'deny', reason: 'rule' }));
  t.match(denied.egress_denied_by, [{ name: 'web' }]);
  t.notOk(denied.egress_allowed_by);

  const audited = toHubble(flow({ rule: rule(), auditRule: staged }, { auditVerdict: 'deny' }));
  t.equal(audited.verdict, 'AUDIT', 'passes, and staged policies would have dropped it');
  t.match(audited.egress_allowed_by, [{ name: 'web' }]);
  t.same(audited.egress_denied_by, [
    {
      name: 'x',
      namespace: '',
      kind: 'ClusterNetworkPolicy',
      labels: ['egress-agent.io/rule=cnp/x#0', 'egress-agent.io/staged=true'],
    },
  ]);
  t.notOk(audited.drop_reason_desc, 'it was not dropped');

  t.equal(toHubble(flow({}, { auditVerdict: 'allow' })).verdict, 'FORWARDED', 'both agree');
  const opposite = toHubble(flow({ auditRule: staged }, { verdict: 'deny', reason: 'rule', auditVerdict: 'allow' }));
  t.equal(opposite.verdict, 'DROPPED', 'a drop is a drop, whatever would be');

  const labelled = rule({ policy: { ...rule().policy, labels: { team: 'a' } } });
  const [policy] = toHubble(flow({ rule: labelled })).egress_allowed_by ?? [];
  t.same(policy?.labels, ['k8s:team=a', 'egress-agent.io/rule=np/shop/web#2']);
  t.notOk(toHubble(flow()).egress_allowed_by, 'no rule, no policy');
});

t.test('directions, replies and the Service’s side', async (t) => {
  const api: Party = { ip: '10.96.0.1', port: 80, kind: 'service', namespace: 'shop', pod: '', labels: { svc: 'api' } };
  const service = { namespace: 'shop', name: 'api' };
  const there = toHubble(flow({ destination: api, service }));
  t.same(there.destination_service, service);
  t.match(there.destination, { namespace: 'shop', labels: ['k8s:svc=api', 'k8s:io.kubernetes.pod.namespace=shop'] });
  // What goes to a Service and to the world at once is hidden by Hubble's UI.
  t.ok((there.destination?.identity ?? 0) >= 256);
  t.notOk(there.destination?.pod_name);

  const back = toHubble(flow({ source: api, destination: WEB, service }, { isReply: true }));
  t.same(back.source_service, service);
  t.notOk(back.destination_service);
  t.equal(back.traffic_direction, 'EGRESS', 'of who opened it');
  t.same(back.is_reply, { value: true });
  t.equal(back.destination?.ID, 1, 'the endpoint');
  t.notOk(back.source?.ID);

  const inbound = toHubble(flow({ source: WORLD, destination: WEB }, { inbound: true }));
  t.equal(inbound.traffic_direction, 'INGRESS');
  t.same(inbound.is_reply, { value: false });
  const end = toHubble(flow({}, { type: 'end', isReply: true }));
  t.same(end.is_reply, { value: false }, 'the end of a flow is no packet');
});

t.test('layers and summaries', async (t) => {
  const rows: [Partial<FlowEvent>, HubbleFlow['l4'] | undefined, string][] = [
    [{ tcpFlags: 0x1f }, undefined, 'TCP Flags: SYN, ACK, RST, FIN, PSH'],
    [{ tcpFlags: 0xe0 }, undefined, 'TCP Flags: URG, ECE, CWR'],
    [{ tcpFlags: 0 }, undefined, 'TCP'],
    [{ protocol: 17 }, { UDP: { source_port: 40000, destination_port: 443 } }, 'UDP'],
    [{ protocol: 132 }, { SCTP: { source_port: 40000, destination_port: 443 } }, 'SCTP'],
    [{ protocol: 1, remotePort: 0x800 }, { ICMPv4: { type: 8, code: 0 } }, 'ICMPv4 EchoRequest'],
    [{ protocol: 1, remotePort: 0x800, isReply: true }, { ICMPv4: { type: 0, code: 0 } }, 'ICMPv4 EchoReply'],
    [{ protocol: 1, remotePort: 0x0d00, isReply: true }, { ICMPv4: { type: 14, code: 0 } }, 'ICMPv4 TimestampReply'],
    [{ protocol: 58, remotePort: 0x8000 }, { ICMPv6: { type: 128, code: 0 } }, 'ICMPv6 EchoRequest'],
    [{ protocol: 58, remotePort: 0x8000, isReply: true }, { ICMPv6: { type: 129, code: 0 } }, 'ICMPv6 EchoReply'],
    [{ protocol: 1, remotePort: 0x2a03 }, { ICMPv4: { type: 42, code: 3 } }, 'ICMPv4 42(3)'],
    [{ protocol: 47 }, undefined, 'GRE'],
  ];
  for (const [e, l4, summary] of rows) {
    const message = toHubble(flow({}, e));
    t.equal(message.Summary, summary);
    if (l4) t.same(message.l4, l4, summary);
  }
  const strange = toHubble(flow({}, { family: 0, protocol: 0, ethertype: 0x88cc }));
  t.equal(strange.Summary, 'ethertype 0x88cc');
  t.notOk(strange.IP);
  t.notOk(strange.l4);
  t.equal(toHubble(flow({}, { family: 6 })).IP?.ipVersion, 'IPv6');
});

t.test('identities', async (t) => {
  const identity = (party: Party, nodeName = 'node-a') => toHubble(flow({ source: party, nodeName })).source?.identity;
  const web = identity(WEB) as number;
  t.ok(web >= 256 && web < 2 ** 24);
  t.equal(
    identity({ ...WEB, pod: 'web-2', labels: { tier: 'front', app: 'web' } }),
    web,
    'by the labels, in any order',
  );
  t.equal(identity(WEB, 'node-b'), web, 'the same on every node');
  t.not(identity({ ...WEB, labels: { app: 'api' } }), web);
  t.not(identity({ ...WEB, namespace: 'other' }), web, 'the same labels’ object in another namespace');
  t.equal(identity(WEB), web);
  const node: Party = { ...WORLD, kind: 'node', node: 'node-a' };
  t.equal(identity(node), 1);
  t.equal(identity({ ...node, node: 'node-b' }), 6);
  t.equal(identity(WORLD), 2);
});

t.test('the whole record', async (t) => {
  const staged = rule({ index: 0, staged: true });
  const e: Partial<FlowEvent> = {
    type: 'end',
    timeNs: 103e9,
    auditVerdict: 'deny',
    reason: 'rule',
    service: '10.96.0.1',
    servicePort: 80,
    packetsIn: 3,
    bytesIn: 180,
    drops: 4,
  };
  const record = toRecord(flow({ rule: rule(), auditRule: staged }, e));
  t.match(record, {
    event: 'end',
    verdict: 'allow',
    rule: { text: 'np/shop/web#2', kind: 'NetworkPolicy', namespace: 'shop', name: 'web', index: 2, staged: false },
    audit_rule: { text: 'np/shop/web#0', staged: true },
    audit_verdict: 'deny',
    reason: 'rule',
    packets_out: 1,
    bytes_out: 60,
    packets_in: 3,
    bytes_in: 180,
    drops: 4,
    duration_ns: 3e9,
    hook: 'from-pod',
    inbound: false,
    service_ip: '10.96.0.1',
    service_port: 80,
    endpoint: 1,
  });
  const plain = toRecord(flow({}, { createdNs: 0 }));
  t.equal(plain.duration_ns, 0, 'of no flow');
  t.notOk('rule' in plain);
  t.notOk('audit_verdict' in plain);
});

t.test('time', async (t) => {
  t.same(timestamp(1_700_000_000_123_456_789n), { seconds: '1700000000', nanos: 123456789 });
  t.same(timestamp(0n), { seconds: '0', nanos: 0 });
});

t.test('field masks', async (t) => {
  const message = toHubble(flow({ rule: rule() }));
  const before = JSON.stringify(message);
  const rows: [string[], unknown][] = [
    [['verdict'], { verdict: 'FORWARDED' }],
    [['source.namespace', 'source.pod_name'], { source: { namespace: 'shop', pod_name: 'web-1' } }],
    [['l4.TCP.flags.SYN', 'l4.TCP.source_port'], { l4: { TCP: { flags: { SYN: true }, source_port: 40000 } } }],
    [['source', 'source.labels'], { source: message.source }],
    [['source.labels', 'source'], { source: message.source }],
    [['verdict.x', 'source.labels.0', 'nothing', 'l7.dns'], { source: {} }],
    [['__proto__.x', 'constructor', ''], {}],
  ];
  for (const [paths, expected] of rows) t.same(applyFieldMask(message, paths), expected, paths.join(' '));
  t.equal(JSON.stringify(message), before, 'other readers’ message is as it was');
});

t.test('a rule’s own name', async (t) => {
  const named = (name: string, over = {}) => rule({ name, ...over });
  const denied = toRecord(flow({ rule: named('egressDeny[0]', { action: 'deny', index: 0 }) }, { verdict: 'deny' }));
  t.match(denied.rule, { text: 'np/shop/web#0 "egressDeny[0]"', index: 0, rule_name: 'egressDeny[0]', name: 'web' });
  t.same(
    denied.flow.egress_denied_by?.[0]?.labels,
    ['egress-agent.io/rule=np/shop/web#0', 'egress-agent.io/rule-name=egressDeny[0]'],
    'the key stays one word',
  );
  const odd = toRecord(flow({ rule: named('say "no"') })).rule;
  t.equal(odd?.text, 'np/shop/web#2 "say \\"no\\""', 'what is in quotes ends where they end');
  const { rule: nobody } = toRecord(flow({ rule: named('always', { index: DEFAULT_RULE, action: 'deny' }) }));
  t.same([nobody?.text, nobody?.rule_name], ['np/shop/web#default', undefined], 'a default has no name');
  t.equal(toRecord(flow({ rule: named('') })).rule?.text, 'np/shop/web#2', 'an empty name is none');
});
