/**
 * Invariant 3: real, made and mutated frames through the hooks. None crashes them, none passes from_pod that the strict parser and the
 * reference deny, and of what they allow nothing is dropped. In turns as a pod whose link goes into a bridge, and into the node alone.
 */
import { toIr } from '../../src/dialects/index.js';
import { AgentError } from '../../src/errors.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import { Evaluate, type World } from '../engines/engine.js';
import { NODE, pod, policy, snapshotOf } from '../policy/world.js';
import { DROP, type Hook, ManyPackets, PASS, type Place } from './kernel.js';
import { captures, madeFrame, mutate, readdressed } from './mutate.js';
import { homed, returned, sender } from './mutate-link.js';
import { Random } from './random.js';
import { GATEWAY_MAC, NEIGHBOURS, NODES, OWN_NODE, POD, POD_IPS, POD_MAC, siteOf } from './site.js';
import { readFrame } from './strict-parser.js';
import { isLinkLocal, type Reading } from './strict-reading.js';

/** Frames through one hook before they go through the others: what is known of one hook's flows must not serve another's. */
const ROUND = 256;

export interface WrongPacket {
  /** How many came before it. */
  readonly packet: number;
  readonly frame: string;
  readonly from: string;
  readonly hook: Hook;
  readonly bridged: boolean;
  readonly answer: string;
  readonly expected: Fate;
  readonly reading: Reading;
}

export interface PacketRun {
  packets: number;
  /** By what the parser called them and the reference said of them. */
  seen: Record<string, number>;
  wrong?: WrongPacket;
}

/** `either`: nobody is served by it, and nobody harmed. */
type Fate = 'allow' | 'deny' | 'either';

/** Half of the ports, protocols and addresses are allowed, so that a header misread shows in the verdict. The node has a policy too. */
function makeWorld(): World {
  const egress = [
    {
      to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.128.0.0/9'] } }],
      ports: [
        { port: 1, endPort: 8191 },
        { protocol: 'UDP', port: 16384, endPort: 32767 },
      ],
    },
    { to: [{ ipBlock: { cidr: '172.16.0.0/12' } }] },
    // Of groups and of the link, some: the rules must show in what is neither ARP nor neighbour discovery.
    ...[
      '224.0.0.0/9',
      '255.255.255.255/32',
      '0.0.0.0/31',
      'ff05::/16',
      'fe80::/72',
      '10.244.0.2/32',
      'fd00::2/128',
    ].map((cidr) => ({
      to: [{ ipBlock: { cidr } }],
    })),
    { to: [{ ipBlock: { cidr: '2001:db8::/33' } }], ports: [{ port: 1, endPort: 8191 }, { protocol: 'SCTP' }] },
    { to: [{ ipBlock: { cidr: '2001:db8:8000::/34' } }] },
  ];
  const ports = (first: number, last: number) => [
    {
      ports: [
        { port: String(first), endPort: last, protocol: 'TCP' },
        { port: '20000', protocol: 'UDP' },
      ],
    },
  ];
  const spec = {
    nodeSelector: { matchLabels: { here: 'true' } },
    egress: [
      { toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.128.0.0/9'] }], toPorts: ports(1, 8191) },
      { toCIDR: ['172.16.0.0/12', '2001:db8:8000::/34'] },
      { toCIDR: ['2001:db8::/33'], toPorts: ports(400, 500) },
    ],
  };
  const nodes = NODES.map(({ name, ips }) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: name === NODE ? { here: 'true' } : {} },
    status: { addresses: ips.map((address) => ({ type: 'InternalIP', address })) },
  }));
  const ofNodes = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumClusterwideNetworkPolicy',
    metadata: { name: 'nodes' },
    spec,
  };
  const snapshot = snapshotOf(
    pod(POD, POD_IPS, { app: 'web' }) +
      NEIGHBOURS.map(({ key, ips }) => pod(key, ips, { app: 'other' })).join('') +
      policy('default/web', { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress }) +
      [...nodes, ofNodes].map((object) => `---\n${JSON.stringify(object)}\n`).join(''),
    OWN_NODE,
  );
  return { snapshot, ir: toIr(snapshot).ir };
}

const placeOf =
  (bridged: boolean): Place =>
  (key) => {
    if (key === NODE_SENDER) return {};
    const mac = NEIGHBOURS.find((n) => n.key === key)?.mac ?? POD_MAC;
    return { mac, ...(bridged ? { gateway: GATEWAY_MAC } : {}) };
  };

export interface PacketLimits {
  readonly count: number;
  /** Of performance.now(). */
  readonly until?: number;
  /** Whether to go on after a disagreement. */
  readonly goOn?: (wrong: WrongPacket) => boolean;
}

export function fuzzPackets(
  seed: number,
  limits: PacketLimits,
  progress: (packets: number) => void = () => undefined,
): PacketRun {
  const r = new Random(seed);
  const real = captures();
  const run: PacketRun = { packets: 0, seen: {} };
  const judge = new PacketJudge(run);
  /** False: the run ends. */
  const good = (wrong: WrongPacket | undefined) => {
    if (!wrong || limits.goOn?.(wrong)) return true;
    run.wrong = wrong;
    return false;
  };
  try {
    for (let round = 0; run.packets < limits.count; round++) {
      if (performance.now() > (limits.until ?? Number.POSITIVE_INFINITY)) break;
      judge.bridge(round % 2 === 0);
      const frames = Array.from({ length: ROUND }, () => nextFrame(r, real)).filter((b) => b.length >= 14);
      judge.forget();
      if (!frames.every((bytes) => good(judge.judged(POD, bytes)))) return run;
      judge.forget();
      const some = frames.filter(() => r.chance(50));
      if (!some.every((bytes) => good(judge.judged(NODE_SENDER, bytes)))) return run;
      // The hooks of what arrives judge nothing; they must bear the same bytes.
      if (!some.every((bytes) => good(judge.bears(NODE_SENDER, bytes, 'uplinkIn')))) return run;
      judge.forget();
      if (!frames.every((bytes) => some.includes(bytes) || good(judge.bears(POD, returned(bytes), 'toPod'))))
        return run;
      progress(run.packets);
    }
    return run;
  } finally {
    judge.close();
  }
}

/** One frame that was found before, alone. */
export function replayPacket({ frame, from, hook, bridged }: WrongPacket): WrongPacket | undefined {
  const judge = new PacketJudge({ packets: 0, seen: {} });
  const bytes = Buffer.from(frame, 'hex');
  try {
    judge.bridge(bridged);
    return hook === 'fromPod' || hook === 'uplink' ? judge.judged(from, bytes) : judge.bears(from, bytes, hook);
  } finally {
    judge.close();
  }
}

function nextFrame(r: Random, real: readonly Buffer[]): Buffer {
  const original = r.chance(65) ? homed(r, Buffer.from(r.pick(real))) : madeFrame(r);
  if (r.chance(10)) return original;
  if (r.chance(30)) return readdressed(r, original);
  return mutate(r, original, real);
}

class PacketJudge {
  readonly #reference = new Evaluate();
  readonly #kernel = new ManyPackets();
  readonly #world = makeWorld();
  #bridged = true;

  constructor(private readonly run: PacketRun) {
    this.#reference.use(this.#world);
  }

  bridge(bridged: boolean): void {
    this.#bridged = bridged;
    this.#kernel.place = placeOf(bridged);
    this.#kernel.use(this.#world);
  }

  forget(): void {
    this.#kernel.forget();
  }

  close(): void {
    this.#kernel.close();
  }

  judged(from: string, bytes: Buffer): WrongPacket | undefined {
    const reading = readFrame(bytes, from === POD ? siteOf(this.#bridged) : undefined);
    if (reading.kind === 'packet') {
      // A later fragment follows its first, an ICMP error a flow that passes: the reference knows of neither.
      if (reading.fragment === 'later') this.#kernel.forget(['fragments']);
      else if (reading.protocol === 1 || reading.protocol === 58) this.#kernel.forget(['flows']);
    }
    const hook = from === POD ? 'fromPod' : 'uplink';
    const answer = this.#answer(from, bytes, hook);
    if (answer === undefined) return undefined;
    const expected = fateOf(reading, from, this.#reference);
    const { run } = this;
    run.packets++;
    const kind = `${from === POD ? '' : 'node '}${reading.kind} ${expected}`;
    run.seen[kind] = (run.seen[kind] ?? 0) + 1;
    const right = expected === 'either' ? [PASS, DROP] : [expected === 'allow' ? PASS : DROP];
    return right.includes(answer) ? undefined : this.#wrong(from, bytes, hook, answer, expected, reading);
  }

  bears(from: string, bytes: Buffer, hook: Hook): WrongPacket | undefined {
    const answer = this.#answer(from, bytes, hook);
    if (answer === undefined || answer === PASS || (hook === 'toPod' && POD_IPS.includes(sender(bytes))))
      return undefined;
    return this.#wrong(from, bytes, hook, answer, 'allow', readFrame(bytes));
  }

  #wrong(from: string, bytes: Buffer, hook: Hook, answer: number, expected: Fate, reading: Reading): WrongPacket {
    const { packets } = this.run;
    const bridged = this.#bridged;
    return {
      packet: packets,
      frame: bytes.toString('hex'),
      from,
      hook,
      bridged,
      answer: `${answer}`,
      expected,
      reading,
    };
  }

  /** undefined: BPF_PROG_TEST_RUN itself takes nothing that is shorter than the header its EtherType promises. */
  #answer(from: string, bytes: Buffer, hook: Hook): number | undefined {
    try {
      return this.#kernel.run(from, bytes, hook);
    } catch (e) {
      if (!(e instanceof AgentError) || e.errno !== 'EINVAL' || bytes.length >= 14 + 40) throw e;
      this.run.seen.refused = (this.run.seen.refused ?? 0) + 1;
      return undefined;
    }
  }
}

const OWN: ReadonlySet<string> = new Set(POD_IPS);

function fateOf(reading: Reading, from: string, reference: Evaluate): Fate {
  if (reading.kind === 'bad') return 'deny';
  const allow = reading.doubt === undefined ? 'allow' : 'either';
  if (reading.kind === 'link') return allow;
  const { kind: _, doubt: __, src, fragment, offset, ...rest } = reading;
  // In forms that no host sends, a node may do as it likes; what it tells of the flows of others is a router's.
  if (from === NODE_SENDER && reading.doubt !== undefined) return 'either';
  if (from === NODE_SENDER && fragment !== 'later' && isError(reading)) return 'allow';
  const { verdict } = reference.judge({ from, ...rest, ...(fragment === 'later' ? { fragment: true } : {}) });
  const onLink = isLinkLocal(src) && (rest.to.startsWith('ff') || isLinkLocal(rest.to));
  // TCP data that begins inside of the header that it should follow is dropped whatever the rules say (RFC 3128).
  const overlap = fragment === 'later' && rest.protocol === 6 && offset < 20;
  // A node sends from more addresses than are known.
  // Who has no address yet asks all of the link, and nobody else (RFC 1122, 3.2.1.3; RFC 4291, 2.5.2).
  const none = src === '0.0.0.0' ? rest.to === '255.255.255.255' : src === '::' && rest.to.startsWith('ff');
  const own = from === NODE_SENDER || OWN.has(src) || onLink || none;
  return verdict === 'allow' && own && !overlap ? allow : 'deny';
}

/** What a router tells of the flows of others: RFC 792, 4443. */
function isError({ protocol, to, port }: Extract<Reading, { kind: 'packet' }>): boolean {
  const v6 = to.includes(':');
  const type = port >> 8;
  return v6 ? protocol === 58 && type < 128 : protocol === 1 && [3, 4, 11, 12].includes(type);
}
