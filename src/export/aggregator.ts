/** Sums flows of the same workloads, ports, verdicts and rules over windows of time. Its memory is bounded. */
import type { FlowRecord, Timestamp } from '../proto/messages.js';
import { bounded, factsOf, MOST_NAME, type Side } from './base/facts.js';
import type { Sum, SumKey, SumSide } from './base/item.js';

/** Number of sums of a window. Further keys are summed together: a pod that scans makes thousands of them. */
const MOST_SUMS = 4096;

const NOBODY: SumSide = { namespace: '', workloadKind: '', workload: '', name: '', ip: '' };

export class Aggregator {
  readonly #most: number;
  #sums = new Map<string, Sum>();
  #others = new Map<string, Sum>();

  constructor(most: number = MOST_SUMS) {
    this.#most = most;
  }

  /** Adds a flow to its sum. @param time of the flow */
  add(record: FlowRecord, time: Timestamp): void {
    const key = keyOf(record);
    const text = JSON.stringify(key);
    let sum = this.#sums.get(text);
    if (!sum) {
      if (this.#sums.size < this.#most) {
        sum = begin(key, time, false);
        this.#sums.set(text, sum);
      } else sum = this.#other(key, time);
    }
    sum.flows++;
    sum.packetsOut += Number(record.packets_out ?? 0);
    sum.bytesOut += Number(record.bytes_out ?? 0);
    sum.packetsIn += Number(record.packets_in ?? 0);
    sum.bytesIn += Number(record.bytes_in ?? 0);
    sum.drops += Number(record.drops ?? 0);
    if (isBefore(time, sum.first)) sum.first = time;
    if (isBefore(sum.last, time)) sum.last = time;
  }

  /** The sums since the last call, the largest first. */
  take(): Sum[] {
    const sums = [...this.#sums.values(), ...this.#others.values()];
    this.#sums = new Map();
    this.#others = new Map();
    return sums.sort((a, b) => b.flows - a.flows);
  }

  /** Flows that are in sums now. */
  get size(): number {
    return this.#sums.size + this.#others.size;
  }

  /** There are few events and verdicts. */
  #other({ event, verdict }: SumKey, time: Timestamp): Sum {
    const text = `${event} ${verdict}`;
    let sum = this.#others.get(text);
    if (!sum) {
      const empty = { port: 0, protocol: '', direction: '', auditVerdict: '', reason: '', rule: '', auditRule: '' };
      sum = begin({ source: NOBODY, destination: NOBODY, ...empty, event, verdict }, time, true);
      if (this.#others.size < 64) this.#others.set(text, sum);
      else sum = [...this.#others.values()].at(-1) as Sum;
    }
    return sum;
  }
}

function begin(key: SumKey, time: Timestamp, isOther: boolean): Sum {
  const counts = { flows: 0, packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0, drops: 0 };
  return { ...key, isOther, first: time, last: time, ...counts };
}

function keyOf(record: FlowRecord): SumKey {
  const facts = factsOf(record);
  return {
    source: sideOf(facts.source),
    destination: sideOf(facts.destination),
    port: facts.destination.port,
    protocol: facts.protocol,
    direction: facts.direction,
    event: bounded(record.event, MOST_NAME),
    verdict: bounded(record.verdict, MOST_NAME),
    auditVerdict: bounded(record.audit_verdict, MOST_NAME),
    reason: bounded(record.reason, MOST_NAME),
    rule: facts.rule,
    auditRule: facts.auditRule,
  };
}

function sideOf({ namespace, pod, workloadKind, workload, names, ip }: Side): SumSide {
  if (workload !== '') return { namespace, workloadKind, workload, name: '', ip: '' };
  if (pod !== '') return { namespace, workloadKind: 'Pod', workload: pod, name: '', ip: '' };
  const [name = ''] = names;
  return { namespace, workloadKind: '', workload: '', name, ip: name === '' ? ip : '' };
}

function isBefore(a: Timestamp, b: Timestamp): boolean {
  const [x, y] = [Number(a.seconds), Number(b.seconds)];
  return x < y || (x === y && a.nanos < b.nanos);
}
