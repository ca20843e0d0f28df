/**
 * Invariant 3: real, made and mutated frames through the hooks. None crashes them, none passes from_pod that the strict parser and the
 * reference deny, and of what they allow nothing is dropped.
 */
import { toIr } from '../../src/dialects/index.js';
import { AgentError } from '../../src/errors.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import { Evaluate, type World } from '../engines/engine.js';
import { NODE, pod, policy, snapshotOf } from '../policy/world.js';
import { DROP, type Hook, ManyPackets, PASS } from './kernel.js';
import { captures, madeFrame, mutate, readdressed } from './mutate.js';
import { Random } from './random.js';
import { parseFrame, type Parsed } from './strict-parser.js';

const POD = 'default/web';
/** Frames through one hook before they go through the others: what is known of one hook's flows must not serve another's. */
const ROUND = 256;

export interface PacketRun {
  packets: number;
  /** By what the parser called them and the reference said of them. */
  seen: Record<string, number>;
  wrong?: { packet: number; frame: string; answer: string; expected: string; parsed: Parsed };
}

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
    nodeSelector: {},
    egress: [
      { toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['10.128.0.0/9'] }], toPorts: ports(1, 8191) },
      { toCIDR: ['172.16.0.0/12', '2001:db8:8000::/34'] },
      { toCIDR: ['2001:db8::/33'], toPorts: ports(400, 500) },
    ],
  };
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE }, status: { addresses: [] } };
  const ofNodes = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumClusterwideNetworkPolicy',
    metadata: { name: 'nodes' },
    spec,
  };
  const snapshot = snapshotOf(
    pod(POD, ['10.244.0.1', 'fd00::1'], { app: 'web' }) +
      policy('default/web', { podSelector: {}, policyTypes: ['Egress'], egress }) +
      [node, ofNodes].map((object) => `---\n${JSON.stringify(object)}\n`).join(''),
  );
  return { snapshot, ir: toIr(snapshot).ir };
}

/** @param limits `until`: of performance.now() */
export function fuzzPackets(
  seed: number,
  limits: { count: number; until?: number },
  progress: (packets: number) => void = () => undefined,
): PacketRun {
  const r = new Random(seed);
  const real = captures();
  const reference = new Evaluate();
  const kernel = new ManyPackets();
  const run: PacketRun = { packets: 0, seen: {} };
  try {
    const world = makeWorld();
    reference.use(world);
    kernel.use(world);
    while (run.packets < limits.count && performance.now() < (limits.until ?? Number.POSITIVE_INFINITY)) {
      const frames = Array.from({ length: ROUND }, () => nextFrame(r, real)).filter((b) => b.length >= 14);
      kernel.forget();
      for (const bytes of frames) if (!judgeFrame(POD, bytes, kernel, reference, run)) return run;
      kernel.forget();
      const some = frames.filter(() => r.chance(50));
      for (const bytes of some) if (!judgeFrame(NODE_SENDER, bytes, kernel, reference, run)) return run;
      // The hooks of what arrives judge nothing; they must bear the same bytes.
      for (const bytes of some) if (!bears(NODE_SENDER, bytes, 'uplinkIn', kernel, run)) return run;
      kernel.forget();
      for (const bytes of frames) if (!some.includes(bytes) && !bears(POD, bytes, 'toPod', kernel, run)) return run;
      progress(run.packets);
    }
    return run;
  } finally {
    kernel.close();
  }
}

function nextFrame(r: Random, real: readonly Buffer[]): Buffer {
  const original = r.chance(75) ? r.pick(real) : madeFrame(r);
  if (r.chance(3)) return original;
  if (r.chance(30)) return readdressed(r, original);
  return mutate(r, original, real);
}

/** False: the run ends. */
function judgeFrame(from: string, bytes: Buffer, kernel: ManyPackets, reference: Evaluate, run: PacketRun): boolean {
  const parsed = parseFrame(bytes);
  if (parsed.kind === 'packet') {
    // A later fragment follows its first, an ICMP error a flow that passes: the reference knows of neither.
    if (parsed.fragment === 'later') kernel.forget(['fragments']);
    else if (parsed.protocol === 1 || parsed.protocol === 58) kernel.forget(['flows']);
  }
  const hook = from === POD ? 'fromPod' : 'uplink';
  const answer = answerOf(from, bytes, hook, kernel, run);
  if (answer === undefined) return true;
  const expected = expectedOf(parsed, from, reference);
  run.packets++;
  const kind = `${from === POD ? '' : 'node '}${parsed.kind} ${expected}`;
  run.seen[kind] = (run.seen[kind] ?? 0) + 1;
  if (answer === (expected === 'allow' ? PASS : DROP)) return true;
  run.wrong = { packet: run.packets, frame: bytes.toString('hex'), answer: `${hook}: ${answer}`, expected, parsed };
  return false;
}

function bears(from: string, bytes: Buffer, hook: Hook, kernel: ManyPackets, run: PacketRun): boolean {
  const answer = answerOf(from, bytes, hook, kernel, run);
  if (answer === undefined || answer === PASS) return true;
  const parsed = parseFrame(bytes);
  run.wrong = {
    packet: run.packets,
    frame: bytes.toString('hex'),
    answer: `${hook}: ${answer}`,
    expected: 'pass',
    parsed,
  };
  return false;
}

/** undefined: BPF_PROG_TEST_RUN itself takes nothing that is shorter than the header its EtherType promises. */
function answerOf(
  from: string,
  bytes: Buffer,
  hook: Hook,
  kernel: ManyPackets,
  { seen }: PacketRun,
): number | undefined {
  try {
    return kernel.run(from, bytes, hook);
  } catch (e) {
    if (!(e instanceof AgentError) || e.errno !== 'EINVAL' || bytes.length >= 14 + 40) throw e;
    seen.refused = (seen.refused ?? 0) + 1;
    return undefined;
  }
}

const OWN: ReadonlySet<string> = new Set(['10.244.0.1', 'fd00::1', '0.0.0.0', '::']);

function expectedOf(parsed: Parsed, from: string, reference: Evaluate): 'allow' | 'deny' {
  if (parsed.kind === 'bad') return 'deny';
  if (parsed.kind === 'link') return 'allow';
  const { kind: _, src, fragment, offset, ...rest } = parsed;
  if (from === NODE_SENDER && fragment !== 'later' && isError(parsed)) return 'allow';
  const { verdict } = reference.judge({ from, ...rest, ...(fragment === 'later' ? { fragment: true } : {}) });
  const linkLocal = /^fe[89ab]/.test(src) && /^(ff|fe[89ab])/.test(rest.to);
  // TCP data that begins inside of the header that it should follow is dropped whatever the rules say (RFC 3128).
  const overlap = fragment === 'later' && rest.protocol === 6 && offset < 20;
  // A node sends from more addresses than are known.
  const own = from === NODE_SENDER || OWN.has(src) || linkLocal;
  return verdict === 'allow' && own && !overlap ? 'allow' : 'deny';
}

/** What a router tells of the flows of others: RFC 792, 4443. */
function isError({ protocol, to, port }: Extract<Parsed, { kind: 'packet' }>): boolean {
  const v6 = to.includes(':');
  const type = port >> 8;
  return v6 ? protocol === 58 && type < 128 : protocol === 1 && [3, 4, 11, 12].includes(type);
}
