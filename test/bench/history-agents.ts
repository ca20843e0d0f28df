/**
 * A process that answers Edges for a thousand agents of the benchmark of the history, over TLS as they would: first all
 * their edges, and on each message of the parent what a minute has changed, which is all of them.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import { columnsOf, edgeMessage, timestampOf } from '../../src/edges/wire.js';
import type { EdgesRequest, EdgesResponse } from '../../src/proto/edges.js';
import { EGRESS } from '../../src/proto/load.js';
import type { TlsFiles } from '../../src/rpc/transport/tls.js';
import { LedgerWorld, rowOf } from './history-world.js';

export interface ToAgents {
  agents?: number;
  /** Which of how many processes this is: one could not serve a thousand connections in time. */
  part?: { process: number; processes: number };
  day?: number;
  tls?: { ca: string; cert: string; key: string };
  minute?: number;
}

let world: LedgerWorld | undefined;
let day = 0;
let minute = 0;
/** Agents that nobody follows. */
let agents: number[] = [];
const calls = new Map<number, ServerWritableStream<EdgesRequest, EdgesResponse>>();
const described = new WeakSet<object>();
/** One answer is made after the other, so that this process has time for its connections. */
let last: Promise<void> = Promise.resolve();

process.on('message', async (m: ToAgents) => {
  if (m.agents !== undefined && m.tls) {
    world = new LedgerWorld(m.agents);
    day = m.day ?? 0;
    agents = world.agentsOf(m.part?.process ?? 0, m.part?.processes ?? 1);
    const tls = Object.fromEntries(Object.entries(m.tls).map(([k, v]) => [k, Buffer.from(v)])) as unknown as TlsFiles;
    process.send?.({ port: await serve(tls) });
  }
  if (m.minute !== undefined) {
    minute = m.minute;
    for (const [agent, call] of calls) enqueue(call, agent, minute);
  }
});

function serve({ ca, cert, key }: TlsFiles): Promise<number> {
  const server = new Server();
  server.addService(EGRESS, {
    Edges: (call: ServerWritableStream<EdgesRequest, EdgesResponse>) => {
      const agent = agents.shift();
      if (agent === undefined) {
        call.end();
        return;
      }
      calls.set(agent, call);
      // A connection that is lost comes again, with whichever agent is free.
      const leave = () => {
        if (calls.get(agent) === call && calls.delete(agent)) agents.push(agent);
      };
      for (const event of ['cancelled', 'close', 'error']) call.on(event, leave);
      enqueue(call, agent, minute);
    },
  });
  const credentials = ServerCredentials.createSsl(ca, [{ private_key: key, cert_chain: cert }], true);
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (e, port) => (e ? reject(e) : resolve(port)));
  });
}

function enqueue(call: ServerWritableStream<EdgesRequest, EdgesResponse>, agent: number, minute: number): void {
  last = last.then(() => send(call, agent, minute)).then(() => turn());
}

async function send(call: ServerWritableStream<EdgesRequest, EdgesResponse>, agent: number, minute: number) {
  if (!world) return;
  const isFirst = !described.has(call);
  described.add(call);
  const numbers = world.edgesOf(agent);
  const own = numbers.map((n) => (world as LedgerWorld).edge(n));
  const message: EdgesResponse = {
    ...{ ledger: agent + 1, node_name: `node-${agent}`, began_at: timestampOf(day * 86_400_000), overflow: 0 },
    edges: isFirst ? own.map(edgeMessage) : [],
    id: own.map((e) => e.id),
    ...columnsOf(numbers.map((n) => rowOf(n, agent, day, minute + 1))),
    caught_up: isFirst,
  };
  if (call.cancelled || call.write(message)) return;
  await new Promise((resolve) => {
    for (const event of ['drain', 'cancelled', 'close']) call.once(event, resolve);
  });
}
