/** Flows with very many labels, which whoever may write a pod or a policy can make: the relay holds few of them. */
import t from 'tap';
import { mergedFlows } from '../../src/relay/merge/flows.js';
import { Budget, HELD_BYTES, sizeOf, TAIL_BYTES } from '../../src/relay/merge/memory.js';
import { Merge } from '../../src/relay/merge/merge.js';
import type { FlowNode, FlowNodes } from '../../src/relay/nodes/nodes.js';
import type { GetFlowsRequest, GetRecordsResponse } from '../../src/proto/messages.js';
import { EGRESS } from '../../src/proto/load.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { flow, WEB } from '../flow/flows.js';
import { TestAgent, until } from './world.js';

/** Half a megabyte as bytes on the wire. All flows share them here, so that the test itself needs little memory. */
const LABELS = Array.from({ length: 7000 }, (_, i) => `key-${i}=${'v'.repeat(60)}`);
const MANY = 1000;

function record(uuid: string, second: number, labels: string[] = []): GetRecordsResponse {
  const flow = { uuid, source: { namespace: 'shop', pod_name: 'web', labels } };
  const time = { seconds: String(4_000_000_000 + second), nanos: 0 };
  return { record: { flow, event: 'FLOW', reason: '', hook: '', verdict: 'ALLOWED' }, time };
}
const LARGE = sizeOf(record('large-1', 1, LABELS));

/** A node that sends `count` flows, one a second, as fast as they are read. */
class Source implements FlowNode {
  readonly id: string;
  readonly name: string;
  sent = 0;
  readonly #count: number;
  readonly #labels: string[];

  constructor(name: string, count: number, labels: string[] = []) {
    this.id = this.name = name;
    this.#count = count;
    this.#labels = labels;
  }

  async *getRecords(request: GetFlowsRequest, signal: AbortSignal, opened?: () => void) {
    opened?.();
    while (this.sent < this.#count && !signal.aborted) {
      this.sent++;
      yield record(`${this.name}-${this.sent}`, this.sent, this.#labels);
    }
    if (request.follow && !signal.aborted) {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    }
  }
}

const fleet = (...nodes: FlowNode[]): FlowNodes => ({ list: () => nodes, onChange: () => () => {} });
const limit = () => HELD_BYTES.share / LARGE;

t.test('sizes are those of strings, objects and arrays', async (t) => {
  const wire = LABELS.reduce((sum, label) => sum + label.length, 0);
  t.ok(LARGE > wire, `${LARGE} bytes for labels of ${wire}`);
  t.ok(LARGE < 2 * wire);
  t.ok(sizeOf(record('small-1', 1)) < 2048);
});

t.test('readers share a budget', async (t) => {
  const budget = new Budget(100, 60);
  t.equal(budget.share, 60, 'nobody reads');
  const shares = [1, 2, 3, 4].map(() => {
    budget.enter();
    return budget.share;
  });
  t.same(shares, [60, 50, 100 / 3, 25]);
  budget.leave();
  t.equal(budget.share, 100 / 3);
});

t.test('following: a slow reader makes the node with large flows wait, and not the others', async (t) => {
  const large = new Source('large', MANY, LABELS);
  const small = new Source('small', MANY);
  const stop = new AbortController();
  const request = { follow: true };
  const items = mergedFlows(fleet(large, small), request, stop.signal, { holdBackMs: 50 })[Symbol.asyncIterator]();
  t.ok((await items.next()).value?.node_status);
  const first = await items.next();
  t.ok(first.value?.record, 'a flow; then the reader pauses');
  await until('all small flows', () => small.sent === MANY);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(large.sent < limit(), `${large.sent} large flows held`);
  t.ok(large.sent > 1);

  const uuids = [first.value?.record?.flow.uuid];
  while (uuids.length < 2 * MANY) uuids.push((await items.next()).value?.record?.flow.uuid);
  t.equal(new Set(uuids).size, 2 * MANY, 'then all of it, each once');
  stop.abort();
  await items.next();
});

t.test('past flows: in order and complete, however large', async (t) => {
  const nodes = [new Source('a', MANY, LABELS), new Source('b', MANY), new Source('c', MANY, LABELS)];
  const seconds: number[] = [];
  let most = 0;
  for await (const { record, time } of mergedFlows(fleet(...nodes), {}, new AbortController().signal)) {
    if (!record) continue;
    seconds.push(Number(time?.seconds));
    const sent = (nodes[0] as Source).sent + (nodes[2] as Source).sent;
    most = Math.max(most, sent - Math.floor((seconds.length / 3) * 2));
  }
  t.equal(seconds.length, 3 * MANY);
  t.same(seconds, [...seconds].sort(), 'in order');
  t.ok(most < limit() + 4, `${most} large flows held`);
});

t.test('the last flows: those that are too large to be kept are reported as lost', async (t) => {
  const uuids: (string | undefined)[] = [];
  let lost = 0;
  const request = { number: MANY };
  const nodes = fleet(new Source('a', 2 * MANY, LABELS));
  for await (const item of mergedFlows(nodes, request, new AbortController().signal)) {
    if (item.lost_events) lost += Number(item.lost_events.num_events_lost);
    if (item.record) uuids.push(item.record.flow.uuid);
  }
  t.ok(uuids.length <= TAIL_BYTES.share / LARGE, `${uuids.length} flows kept`);
  t.ok(uuids.length > 10);
  t.equal(uuids.at(-1), `a-${2 * MANY}`, 'the newest are kept');
  t.equal(lost + uuids.length, MANY);
});

t.test('a node with large items leaves the others their share', async (t) => {
  const merge = new Merge<number>({ holdBackMs: Number.POSITIVE_INFINITY, most: 1000, mostBytes: () => 1000 });
  for (const node of ['a', 'b', 'c', 'd', 'e']) merge.join(node);
  let n = 0;
  const fill = (node: string, bytes: number) => {
    let added = 0;
    for (; merge.hasRoom(node); added++) merge.push(node, BigInt(++n), n, 0, bytes);
    return added;
  };
  t.equal(fill('a', 100), 5, 'half of the room');
  t.equal(fill('b', 10), 10, 'a fifth of the other half');
  t.equal(fill('c', 10), 10);
  t.equal(fill('d', 200), 1, 'one item, however large');
  t.equal(fill('a', 100), 0);
  t.equal(fill('e', 10), 10);
  t.equal(merge.dueIn(0), 0, 'memory has precedence over the order');
  for (let i = 0; i < 5; i++) merge.take(0);
  t.equal(fill('a', 1), 100, 'what is released makes room');
});

t.test('readers that have ended take no share', async (t) => {
  for (const budget of [HELD_BYTES, TAIL_BYTES]) {
    const { share } = budget;
    budget.enter();
    t.equal(budget.share, share);
    budget.leave();
  }
});

t.test('a stream of large flows is not read ahead', async (t) => {
  const method = EGRESS.GetFlows as { responseDeserialize: (bytes: Buffer) => object };
  const { responseDeserialize } = method;
  let decoded = 0;
  method.responseDeserialize = (bytes) => {
    decoded++;
    return responseDeserialize(bytes);
  };
  const agent = await new TestAgent('node-a').listen();
  const client = new AgentClient({ address: agent.address, name: agent.name });
  t.teardown(async () => {
    method.responseDeserialize = responseDeserialize;
    client.close();
    await agent.server.close();
  });
  const read = async (labels: Record<string, string>) => {
    decoded = 0;
    for (let i = 0; i < 50; i++) {
      agent.hub.publish(flow({ uuid: `u${i}`, source: { ...WEB, labels } }));
    }
    const items = client.getRecords({ number: 50 })[Symbol.asyncIterator]();
    await items.next();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const ahead = decoded;
    let n = 1;
    while (!(await items.next()).done) n++;
    t.equal(n, 50, 'all of it');
    return ahead;
  };
  t.ok((await read({})) > 10, 'small ones are');
  const ahead = await read(Object.fromEntries(LABELS.map((label) => label.split('='))));
  t.ok(ahead <= 3, `${ahead} of 50 decoded when the first was taken`);
});
