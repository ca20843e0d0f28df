/**
 * Invariant 3: real, made and mutated frames through the hooks. None crashes them, none passes from_pod that the strict parser and the
 * reference deny, and of what they allow nothing is dropped.
 */
import { toIr } from '../../src/dialects/index.js';
import { AgentError } from '../../src/errors.js';
import { Evaluate, type World } from '../engines/engine.js';
import { pod, policy, snapshotOf } from '../policy/world.js';
import { DROP, ManyPackets, PASS } from './kernel.js';
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

/** Half of the ports, protocols and addresses are allowed, so that a header misread shows in the verdict. */
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
  const snapshot = snapshotOf(
    pod(POD, ['10.244.0.1', 'fd00::1'], { app: 'web' }) +
      policy('default/web', { podSelector: {}, policyTypes: ['Egress'], egress }),
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
      for (const bytes of frames) if (!judgeFrame(bytes, kernel, reference, run)) return run;
      kernel.forget();
      // The other hooks judge nothing here; they must bear the same bytes.
      for (const bytes of frames) if (!bears(bytes, r.pick(['toPod', 'uplink'] as const), kernel, run)) return run;
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
function judgeFrame(bytes: Buffer, kernel: ManyPackets, reference: Evaluate, run: PacketRun): boolean {
  const parsed = parseFrame(bytes);
  if (parsed.kind === 'packet') {
    // A later fragment follows its first, an ICMP error a flow that passes: the reference knows of neither.
    if (parsed.fragment === 'later') kernel.forget(['fragments']);
    else if (parsed.protocol === 1 || parsed.protocol === 58) kernel.forget(['flows']);
  }
  const answer = answerOf(bytes, 'fromPod', kernel, run);
  if (answer === undefined) return true;
  const expected = expectedOf(parsed, reference);
  run.packets++;
  const kind = `${parsed.kind} ${expected}`;
  run.seen[kind] = (run.seen[kind] ?? 0) + 1;
  if (answer === (expected === 'allow' ? PASS : DROP)) return true;
  run.wrong = { packet: run.packets, frame: bytes.toString('hex'), answer: `from_pod: ${answer}`, expected, parsed };
  return false;
}

function bears(bytes: Buffer, program: 'toPod' | 'uplink', kernel: ManyPackets, run: PacketRun): boolean {
  const answer = answerOf(bytes, program, kernel, run);
  if (answer === undefined || answer === PASS) return true;
  const parsed = parseFrame(bytes);
  run.wrong = {
    packet: run.packets,
    frame: bytes.toString('hex'),
    answer: `${program}: ${answer}`,
    expected: 'pass',
    parsed,
  };
  return false;
}

/** undefined: BPF_PROG_TEST_RUN itself takes nothing that is shorter than the header its EtherType promises. */
function answerOf(
  bytes: Buffer,
  program: 'fromPod' | 'toPod' | 'uplink',
  kernel: ManyPackets,
  { seen }: PacketRun,
): number | undefined {
  try {
    return kernel.run(bytes, program);
  } catch (e) {
    if (!(e instanceof AgentError) || e.errno !== 'EINVAL' || bytes.length >= 14 + 40) throw e;
    seen.refused = (seen.refused ?? 0) + 1;
    return undefined;
  }
}

const OWN: ReadonlySet<string> = new Set(['10.244.0.1', 'fd00::1', '0.0.0.0', '::']);

function expectedOf(parsed: Parsed, reference: Evaluate): 'allow' | 'deny' {
  if (parsed.kind === 'bad') return 'deny';
  if (parsed.kind === 'link') return 'allow';
  const { kind: _, src, fragment, offset, ...rest } = parsed;
  const { verdict } = reference.judge({ from: POD, ...rest, ...(fragment === 'later' ? { fragment: true } : {}) });
  const linkLocal = /^fe[89ab]/.test(src) && /^(ff|fe[89ab])/.test(rest.to);
  // TCP data that begins inside of the header that it should follow is dropped whatever the rules say (RFC 3128).
  const overlap = fragment === 'later' && rest.protocol === 6 && offset < 20;
  return verdict === 'allow' && (OWN.has(src) || linkLocal) && !overlap ? 'allow' : 'deny';
}
