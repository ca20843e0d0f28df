/** Which rules name the servers that they allow to be asked: src/compile/servers.ts. */
import t from 'tap';
import type { LabelExpr, Peer } from '../../src/ir/peers.js';
import { namesItsServers } from '../../src/compile/servers.js';

const namespaces = { names: ['default'] };
const pods = (expr: LabelExpr): Peer => ({ kind: 'pods', namespaces, pods: expr });
const cidr = (text: string): Peer => ({ kind: 'cidr', cidr: text, except: [] });
const app: LabelExpr = { op: 'in', key: 'app', values: ['dns'] };
const space: LabelExpr = { op: 'in', key: '@namespace', values: ['kube-system'] };
const ofSpace: LabelExpr = { op: 'exists', key: '@ns/team' };
const not = (of: LabelExpr): LabelExpr => ({ op: 'not', of });

t.test('rules that name their servers', async (t) => {
  const named: Readonly<Record<string, readonly Peer[]>> = {
    'an address': [cidr('192.0.2.1/32')],
    'addresses of both families': [cidr('192.0.2.1/32'), cidr('2001:db8::1/128')],
    'an address outside of the cluster': [{ kind: 'all', of: [cidr('192.0.2.1/32'), { kind: 'not', of: pods(app) }] }],
    'pods by label': [pods({ op: 'and', of: [space, app] })],
    'pods by either label': [pods({ op: 'or', of: [app, { op: 'exists', key: 'resolver' }] })],
    'a Service': [{ kind: 'services', namespaces, name: 'dns', labels: { op: 'true' } }],
    'Services by label': [{ kind: 'services', namespaces, labels: app }],
  };
  for (const [what, peers] of Object.entries(named)) t.ok(namesItsServers({ peers }), what);
});

t.test('rules that do not', async (t) => {
  const open: Readonly<Record<string, readonly Peer[] | null>> = {
    'every address': null,
    'no address': [],
    'any address, as a peer': [{ kind: 'any' }],
    'a network': [cidr('192.0.2.0/24')],
    'everything but a network': [{ kind: 'not', of: cidr('192.0.2.1/32') }],
    'an address, and a network': [cidr('192.0.2.1/32'), cidr('10.0.0.0/8')],
    'an address or anything': [{ kind: 'some', of: [cidr('192.0.2.1/32'), { kind: 'any' }] }],
    'nothing of several': [{ kind: 'some', of: [] }],
    'all pods': [pods({ op: 'true' })],
    'all pods of a namespace': [pods(space)],
    'all pods of some namespaces': [pods(ofSpace)],
    'pods without a label': [pods(not(app))],
    'pods by a label, or of a namespace': [pods({ op: 'or', of: [app, space] })],
    'all Services': [{ kind: 'services', namespaces, labels: { op: 'true' } }],
    'the pod itself': [{ kind: 'self' }],
    'its node': [{ kind: 'own-node' }],
    'nodes by label': [{ kind: 'nodes', labels: app }],
  };
  for (const [what, peers] of Object.entries(open)) t.notOk(namesItsServers({ peers }), what);
});
