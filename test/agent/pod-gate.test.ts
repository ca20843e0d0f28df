import t from 'tap';
import { Claims } from '../../agent/endpoints/binding/claims.js';
import { EndpointResolver } from '../../agent/endpoints/resolver.js';
import type { GateRequest } from '../../agent/gate/protocol.js';
import { PodGate } from '../../agent/gate/pod-gate.js';
import type { InForceState } from '../../agent/endpoints/in-force.js';
import type { Pod } from '../../src/identity/snapshot.js';
import { Bed, pod, snapshot } from '../netns/attach-bed.js';

const bed = new Bed();
t.teardown(() => bed.close());
bed.addNs('a');
bed.addNs('b');
const a = bed.veth('a', 'eth0', ['10.98.31.2/24']);
bed.veth('b', 'eth0', ['10.98.32.2/24']);

function request(name: string, ns: string, more: { uid?: string; command?: 'ADD' | 'DEL' } = {}): GateRequest {
  const { command = 'ADD', ...uid } = more;
  return {
    command,
    container: 'c0',
    netns: `/run/netns/${bed.ns(ns)}`,
    ifname: 'eth0',
    ips: [],
    pod: { namespace: 'test', name, ...uid },
  };
}

/** The gate over a resolver that looks at the real interfaces; which of them are hooked is said here. */
function gateBed() {
  const resolver = new EndpointResolver({ nodeName: 'node', annotations: false, unassigned: false, starting: true });
  const hooked = new Set<number>();
  let asked = 0;
  const gate = new PodGate({
    claims: resolver.claims,
    attacher: { hooked: (ifindex) => hooked.has(ifindex) },
    schedule: () => asked++,
  });
  const pass = (...pods: Pod[]) =>
    gate.release({ bindings: resolver.resolve(snapshot(...pods)) } as unknown as InForceState);
  const add = (r: GateRequest, signal = new AbortController().signal) => {
    const state = { is: 'waiting' };
    gate.add(r, signal).then(
      () => (state.is = 'passed'),
      (e: Error) => (state.is = e.message),
    );
    return async () => {
      await new Promise((resolve) => setImmediate(resolve));
      return state.is;
    };
  };
  return { resolver, gate, hooked, pass, add, asked: () => asked };
}

const local = (name: string, more: Partial<Pod> = {}) => pod(name, { nodeName: 'node', ...more });

t.test('a pod passes when it is known, bound and hooked; not before', async (t) => {
  const b = gateBed();
  b.pass();
  const state = b.add(request('web', 'a', { uid: 'uid-web' }));
  t.equal(b.asked(), 1, 'a pass is asked for');
  b.pass();
  t.equal(await state(), 'waiting', 'the API server has not told of it');
  b.pass(local('web', { uid: 'the one before' }));
  t.equal(await state(), 'waiting', 'only of another one');
  b.pass(local('web'));
  t.equal(await state(), 'waiting', 'bound, but no hook yet');
  b.hooked.add(a.ifindex);
  b.pass(local('other'));
  t.equal(await state(), 'waiting', 'a pass without it');
  b.pass(local('web'));
  t.equal(await state(), 'passed');
});

t.test('every interface of the pod must be hooked', async (t) => {
  bed.addNs('two');
  const one = bed.veth('two', 'eth0', ['10.98.33.2/24']);
  const two = bed.veth('two', 'net1', ['10.98.34.2/24']);
  const b = gateBed();
  const state = b.add(request('multi', 'two'));
  b.hooked.add(one.ifindex);
  b.pass(local('multi'));
  t.equal(await state(), 'waiting');
  b.hooked.add(two.ifindex);
  b.pass(local('multi'));
  t.equal(await state(), 'passed');
});

t.test('a namespace by whichever of its names', async (t) => {
  const b = gateBed();
  b.hooked.add(a.ifindex);
  // The namespaces are looked through for a pod that comes before it by name, and found under /run/netns.
  const { netns, ...rest } = request('web', 'a');
  const state = b.add({ ...rest, netns: `/var${netns}` });
  const again = b.add({ ...rest, netns: `/proc/${process.pid}/root${netns}` });
  b.pass(local('a-first', { ips: ['10.98.32.2'] }), local('web'));
  t.same([await state(), await again()], ['passed', 'passed']);
});

t.test('withdrawn, refused, or none of our business', async (t) => {
  const b = gateBed();
  b.hooked.add(a.ifindex);
  const gone = new AbortController();
  const state = b.add(request('web', 'a'), gone.signal);
  gone.abort();
  t.equal(await state(), 'the question was withdrawn');
  t.equal(await b.add(request('web', 'a'), AbortSignal.abort())(), 'the question was withdrawn', 'before it was asked');
  const absent = { ...request('web', 'a'), netns: '/run/netns/absent' };
  await t.rejects(b.gate.add(absent, gone.signal), {
    code: 'NETNS',
    message: /no network namespace at \/run\/netns\/absent/,
    where: { object: 'Pod test/web' },
  });
  const { pod: _, ...nobody } = request('x', 'a');
  t.equal(await b.add(nobody)(), 'passed', 'no pod is named');
  t.match(b.resolver.claims.find(local('web')), { sure: false }, 'what was withdrawn is known all the same');
});

t.test('the end of a pod, and its successor of the same name', async (t) => {
  const b = gateBed();
  b.hooked.add(a.ifindex);
  const first = local('db', { uid: 'one', ips: ['10.98.31.2'] });
  const state = b.add(request('db', 'a', { uid: 'one' }));
  b.pass(first);
  t.equal(await state(), 'passed');
  // Without a UID: a runtime that does not tell it.
  const next = b.add(request('db', 'b'));
  b.hooked.add(0);
  for (const l of b.resolver.resolve(snapshot()).starting) b.hooked.add(l.ifindex);
  b.pass(first);
  t.equal(await next(), 'waiting', 'the pod of this name that is known has its addresses elsewhere');
  t.match(b.resolver.resolve(snapshot(first)).pods, [{ ...a, uid: 'one' }], 'and keeps its interface');
  b.gate.del(request('db', 'a', { command: 'DEL' }));
  const second = local('db', { uid: 'two' });
  const bound = b.resolver.resolve(snapshot(second)).pods;
  t.match(bound, [{ uid: 'two', netns: { path: `/run/netns/${bed.ns('b')}` } }]);
  for (const p of bound) b.hooked.add(p.ifindex);
  b.pass(second);
  t.equal(await next(), 'passed');
  b.gate.del(request('db', 'b', { command: 'DEL' }));
  t.equal(b.resolver.claims.size, 0);
});

t.test('claims are the gate`s alone', async (t) => {
  const claims = new Claims();
  const gate = new PodGate({ claims, attacher: { hooked: () => true }, schedule: () => undefined });
  void gate.add(request('web', 'a'), new AbortController().signal);
  t.equal(claims.size, 1);
  const { pod: _, ...nobody } = request('web', 'a');
  gate.del({ ...nobody, command: 'DEL' });
  t.equal(claims.size, 1, 'an end that names no pod');
});
