/** A process that plays some nodes of the benchmark of the relay under the web UI: real hubs and servers, made flows. */
import { EVENT_SIZE } from '../../src/flow/event/decode.js';
import { EdgeCounter } from '../../src/edges/counter.js';
import { Ledger } from '../../src/edges/ledger.js';
import { RawIntake, somePods } from '../flow/raw.js';
import { TestAgent } from '../relay/world.js';

export interface ToNodes {
  /** Names of the nodes. */
  nodes: string[];
  tlsDir: string;
  /** Flows a second of each node. */
  perSecond: number;
}

const PODS = 20;
/** Of each pod. */
const PEERS = 10;
const TICK_MS = 20;

process.once('message', async ({ nodes, tlsDir, perSecond }: ToNodes) => {
  const ports: number[] = [];
  for (const name of nodes) ports.push(await play(name, tlsDir, perSecond));
  process.send?.({ ports });
});

async function play(name: string, tlsDir: string, perSecond: number): Promise<number> {
  const ledger = Ledger.fresh(Date.now());
  const pods = somePods(PODS);
  const edges = new EdgeCounter(ledger, { nodeName: name, stride: EVENT_SIZE });
  const raw = new RawIntake(name, { pods, edges, batch: 1024 });
  const agent = await new TestAgent(name, { hub: raw.intake.hub, edges: ledger }).listen(tlsDir);
  const began = performance.now();
  let n = 0;
  setInterval(() => {
    edges.tick(performance.now());
    for (const due = ((performance.now() - began) / 1000) * perSecond; n < due; n++) {
      const endpoint = 1 + (n % PODS);
      const remote = `192.0.2.${1 + (Math.floor(n / PODS) % PEERS)}`;
      const verdict = n % 97 === 0 ? 'deny' : 'allow';
      raw.add({ endpoint, remote, verdict, audit: n % 61 === 0 ? 'deny' : 'none', localPort: 1024 + (n % 60_000) });
    }
    raw.flush();
  }, TICK_MS);
  setInterval(() => raw.intake.tick(), 1000);
  return agent.port;
}
