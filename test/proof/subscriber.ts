/**
 * Subscribers of an agent's flows, in a process of their own: `node subscriber.js TARGET COUNT OUT`. Says `ready` when all of them
 * are heard; at the end of its stdin it writes what they heard to OUT, as JSON, and ends.
 */
import { writeFileSync } from 'node:fs';
import { AgentClient, type Remote } from '../../src/rpc/transport/client.js';
import { readTls } from '../../src/rpc/transport/tls.js';

/** What one subscriber heard. */
export interface Heard {
  /** Each flow's number, as its uuid ends in it. */
  flows: number[];
  /** Flows that it was told it missed; and events that nobody saw. */
  missed: number;
  unseen: number;
  /** Why the agent hung up on it. */
  cut?: string;
}

/** @param spec path of a unix socket, or `ADDRESS:PORT,DIRECTORY` with the client's certificate */
function target(spec: string): string | Remote {
  const [address = '', dir] = spec.split(',');
  return dir === undefined ? spec : { address, name: address, tls: readTls(dir) };
}

export function numberOf(uuid: string | undefined): number {
  return Number.parseInt((uuid ?? '').slice(-12), 16);
}

async function main(spec: string, count: number, out: string): Promise<void> {
  const stop = new AbortController();
  const heard: Heard[] = [];
  let open = 0;
  const reading = Array.from({ length: count }, async (_, i) => {
    const mine: Heard = { flows: [], missed: 0, unseen: 0 };
    heard[i] = mine;
    const client = new AgentClient(target(spec));
    const opened = () => {
      if (++open === count) console.log('ready');
    };
    try {
      for await (const { record, lost_events: lost } of client.getRecords({ follow: true }, stop.signal, opened)) {
        if (record) mine.flows.push(numberOf(record.flow.uuid));
        if (lost?.source === 'HUBBLE_RING_BUFFER') mine.missed += Number(lost.num_events_lost);
        else if (lost) mine.unseen += Number(lost.num_events_lost);
      }
    } catch (e) {
      mine.cut = (e as Error).message;
    } finally {
      client.close();
    }
  });
  // A line asks how far they are; the end of input ends them.
  process.stdin.on('data', () => console.log(`at ${Math.min(...heard.map((h) => h.flows.length + h.missed))}`));
  process.stdin.on('end', () => stop.abort());
  await Promise.all(reading);
  writeFileSync(out, JSON.stringify(heard));
}

const [spec, count, out] = process.argv.slice(2);
if (import.meta.url === `file://${process.argv[1]}`) await main(spec ?? '', Number(count), out ?? '');
