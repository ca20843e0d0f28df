/**
 * All policy languages at once, in a large cluster: the whole of it from nothing, one change of it, and what the first
 * packet of a flow costs where thousands of rules apply to its pod.
 */
import { KernelMapStore } from '../../agent/maps/store.js';
import { loadForTest } from '../engines/engine.js';
import {
  allPolicies,
  cidrGroup,
  clusterObjects,
  type Json,
  type Kind,
  LOCAL_PODS,
  localPods,
  MIX,
  networkSet,
  NODE,
  PODS,
  LOCAL_NAMESPACES,
  policyObject,
  supportingObjects,
} from './dialects-objects.js';
import { firstPacketTime } from './packet.js';
import { Pipeline } from './pipeline.js';
import { atMost, median, percentile, progress, type Result } from './result.js';

const ROUNDS = 5;
/** Changes of policies in a round, of each kind in turn; of what the machine's other work disturbs, the best of so many rounds. */
const CHANGES = 200;
const CHANGE_ROUNDS = 3;
/** Changes of what policies refer to; reported beside. */
const SUPPORTING_CHANGES = 40;
const [FEW_RULES, MANY_RULES] = [10, 4000];

export async function dialects(): Promise<Result[]> {
  const total = Object.values(MIX).reduce((a, b) => a + b, 0);
  const objects = [...clusterObjects(), ...supportingObjects(), ...allPolicies()];
  const pipeline = fromNothing(objects);
  const cold = pipeline.took;
  const took = await changes(pipeline.last);
  const text = (list: readonly number[]) =>
    `median ${median(list).toFixed(1)} ms, p99 ${percentile(list, 99).toFixed(1)} ms`;
  return [
    atMost(
      'policies in all languages: objects → IR → Image',
      median(cold) / 1000,
      's',
      `${total} policies, ${PODS} pods, ${LOCAL_PODS} on the node; median of ${ROUNDS}, ${spread(cold, 1000)} s; ${pipeline.last.size}`,
      5,
    ),
    atMost(
      'one policy among them changed → maps written, p99',
      percentile(took.policies, 99),
      'ms',
      `${text(took.policies)} of ${CHANGES}, the best of ${CHANGE_ROUNDS} rounds; one set or CIDR group that ${Math.round((MIX.CalicoNetworkPolicy + MIX.StagedNetworkPolicy) / 200)} to ${(MIX.CiliumNetworkPolicy + MIX.CiliumClusterwideNetworkPolicy) / 50} policies refer to: ${text(took.supporting)}`,
      30,
    ),
    firstPacket(),
  ];
}

function fromNothing(objects: readonly Json[]): { took: number[]; last: Pipeline } {
  const took: number[] = [];
  let last = new Pipeline(NODE, localPods());
  for (let i = 0; i < ROUNDS; i++) {
    // What was understood is remembered by object: from nothing means new ones.
    const fresh = structuredClone(objects) as Json[];
    globalThis.gc?.();
    last = new Pipeline(NODE, localPods());
    const { read, ir, image } = last.take(fresh);
    took.push(read + ir + image);
    progress(
      `all languages: read ${Math.round(read)} ms, IR ${Math.round(ir)} ms, Image ${Math.round(image)} ms; ${last.size}`,
    );
  }
  return { took, last };
}

/** One object after the other, into maps; every second policy is one that is in force on this node. */
async function changes(pipeline: Pipeline): Promise<{ policies: number[]; supporting: number[] }> {
  const programs = loadForTest();
  const store = new KernelMapStore(programs.maps);
  try {
    pipeline.into(store);
    const { maps } = pipeline.take([]);
    progress(`first time into the maps: ${Math.round(maps)} ms`);
    const once = async (object: Json): Promise<number> => {
      const { read, ir, image, maps } = pipeline.take([structuredClone(object)]);
      // The next change comes at once, as it may in an agent: its other work has a turn in between.
      void store.tidyLater();
      await new Promise((resolve) => setImmediate(resolve));
      return read + ir + image + maps;
    };
    const kinds = Object.keys(MIX) as Kind[];
    const rounds: number[][] = [];
    for (let i = 0; i < CHANGE_ROUNDS * CHANGES; i++) {
      if (i % CHANGES === 0) rounds.push([]);
      const kind = kinds[i % kinds.length] as Kind;
      const turn = Math.floor(i / kinds.length);
      const n = (turn % 2 === 0 ? (turn * 37) % LOCAL_NAMESPACES : turn * 997) % MIX[kind];
      rounds.at(-1)?.push(await once(policyObject(kind, n, i + 1)));
    }
    const p99 = (list: readonly number[]) => percentile(list, 99);
    progress(`one change: p99 of the rounds ${rounds.map((r) => p99(r).toFixed(1)).join(', ')} ms`);
    const policies = rounds.sort((a, b) => p99(a) - p99(b))[0] as number[];
    const supporting: number[] = [];
    for (let i = 0; i < SUPPORTING_CHANGES; i++) {
      supporting.push(await once(i % 2 === 0 ? networkSet(i, i + 1) : cidrGroup(i, i + 1)));
    }
    return { policies, supporting };
  } finally {
    store.close();
    programs.close();
  }
}

function firstPacket(): Result {
  const few = firstPacketTime(FEW_RULES, FEW_RULES);
  const many = firstPacketTime(MANY_RULES, MANY_RULES);
  const [a, b, ratios]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < ROUNDS; i++) {
    const x = few();
    const y = many();
    a.push(x);
    b.push(y);
    ratios.push(y / x);
  }
  const text = `${Math.round(median(b))} ns with ${MANY_RULES} rules, ${Math.round(median(a))} ns with ${FEW_RULES}; ${spread(ratios, 1)} x`;
  progress(`first packet: ${text}`);
  return atMost('first packet of a flow, 4,000 rules in its set', median(ratios), 'x', text, 2);
}

/** `min–max` of repetitions. */
function spread(values: readonly number[], divisor: number): string {
  return `${(Math.min(...values) / divisor).toFixed(2)} to ${(Math.max(...values) / divisor).toFixed(2)}`;
}
