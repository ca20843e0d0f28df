/**
 * Invariant 3: random and mutated packets through the judging hook. None crashes it, none passes that the reference
 * denies, and of what the reference allows nothing is dropped but for its source. FUZZ_PACKETS, FUZZ_SEED.
 */
import t from 'tap';
import { Evaluate, Kernel, type World } from '../engines/engine.js';
import { frame, type FrameOptions } from '../engines/packets.js';
import { pod, policy, snapshotOf } from '../policy/world.js';
import { toIr } from '../../src/dialects/index.js';
import { AgentError } from '../../src/errors.js';
import { type Random, seeded } from './random.js';
import { parseFrame } from './strict-parser.js';

const PACKETS = Number(process.env.FUZZ_PACKETS ?? 30_000);
const random = seeded();

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
    pod('default/web', ['10.244.0.1', 'fd00::1'], { app: 'web' }) +
      policy('default/web', { podSelector: {}, policyTypes: ['Egress'], egress }),
  );
  return { snapshot, ir: toIr(snapshot).ir };
}

const DESTINATIONS = [
  '10.1.2.3',
  '10.200.1.1',
  '172.16.5.5',
  '192.0.2.1',
  '10.255.255.255',
  '224.0.0.1',
  '2001:db8::5',
  '2001:db8:8000::5',
  '2001:db8:c000::5',
  'ff02::1',
];

function randomFrame(r: Random): Buffer {
  const to = r.pick(DESTINATIONS);
  const v6 = to.includes(':');
  const protocol = r.pick([6, 6, 6, 17, 17, 132, 33, 136, v6 ? 58 : 1, 47, v6 ? 1 : 58, 50]);
  const icmp = protocol === 1 || protocol === 58;
  const port = icmp
    ? r.pick([8, 0, 3, 11, 5, 128, 129, 1, 133, 135, 143, 130]) * 256 + r.below(3)
    : r.pick([1, 80, 443, 8191, 8192, 16384, 20000, 32767, 32768, 65535]);
  const extension = () => {
    const kind = r.pick([0, 60, 43, 51]);
    const units = r.below(3);
    const header = Buffer.alloc(kind === 51 ? (units + 2) * 4 : (units + 1) * 8);
    header[1] = units;
    if (kind === 43 && r.chance(20)) header[3] = 1;
    return [kind, header] as const;
  };
  const options: FrameOptions = {
    src: r.chance(92) ? (v6 ? 'fd00::1' : '10.244.0.1') : v6 ? 'fd00::2' : '10.244.0.2',
    sport: 1024 + r.below(60000),
    ttl: r.pick([64, 64, 255, 1]),
    tcpFlags: r.pick([2, 2, 16, 18, 4, 1, 0]),
    ...(r.chance(10) ? { vlan: r.some([1, 2, 3], 3) } : {}),
    ...(r.chance(15) ? { options: Buffer.alloc(4 * (1 + r.below(10)), 1) } : {}),
    ...(r.chance(25) ? { extensions: Array.from({ length: r.below(10) }, extension) } : {}),
    ...(r.chance(15)
      ? { fragment: { offset: r.pick([0, 0, 8, 16, 24, 1480, 65528]), more: r.chance(60), id: r.below(1000) } }
      : {}),
  };
  return frame({ to, protocol, port }, options);
}

function mutate(r: Random, original: Buffer): Buffer {
  let b = Buffer.from(original);
  for (let n = r.below(4); n > 0; n--) {
    switch (r.below(5)) {
      case 0:
        b[r.below(b.length)] = r.below(256);
        break;
      case 1:
        b[r.below(Math.min(b.length, 60))] = r.pick([0, 1, 4, 6, 17, 44, 0x45, 0x46, 0x60, 0x7f, 0x80, 0xff]);
        break;
      case 2:
        b = b.subarray(0, 14 + r.below(b.length - 13));
        break;
      case 3:
        b = Buffer.concat([b, Buffer.alloc(r.below(40), r.below(256))]);
        break;
      default:
        if (b.length > 15) b.writeUInt16BE(r.below(65536), r.below(b.length - 1));
    }
    if (b.length < 15) break;
  }
  return b;
}

t.test(`${PACKETS} packets, FUZZ_SEED=${random.seed}`, async (t) => {
  const [reference, kernel] = [new Evaluate(), new Kernel()];
  t.teardown(() => kernel.close());
  const world = makeWorld();
  reference.use(world);
  kernel.use(world);
  kernel.become('default/web');
  const own = new Set(['10.244.0.1', 'fd00::1', '0.0.0.0', '::']);
  const seen: Record<string, number> = {};
  for (let i = 0; i < PACKETS; i++) {
    // The kernel wants an Ethernet header at least.
    const original = randomFrame(random);
    const bytes = random.chance(30) ? original : mutate(random, original);
    if (bytes.length < 14) continue;
    kernel.forget();
    let result: ReturnType<typeof kernel.run>;
    try {
      result = kernel.run(bytes);
    } catch (e) {
      // BPF_PROG_TEST_RUN itself takes nothing that is shorter than the header its EtherType promises.
      if (!(e instanceof AgentError) || e.errno !== 'EINVAL' || bytes.length >= 14 + 40) throw e;
      seen.refused = (seen.refused ?? 0) + 1;
      continue;
    }
    const { verdict, retval } = result;
    if (retval !== -1 && retval !== 2) t.fail(`verdict ${retval} is neither pass nor drop`);
    const parsed = parseFrame(bytes);
    let expected: 'allow' | 'deny';
    if (parsed.kind === 'bad') expected = 'deny';
    else if (parsed.kind === 'link') expected = 'allow';
    else {
      const { kind: _, src, fragment, offset, ...rest } = parsed;
      const judged = reference.judge({
        from: 'default/web',
        ...rest,
        ...(fragment === 'later' ? { fragment: true } : {}),
      });
      const linkLocal = /^fe[89ab]/.test(src) && /^(ff|fe[89ab])/.test(rest.to);
      // TCP data that begins inside of the header that it should follow is dropped whatever the rules say (RFC 3128).
      const overlap = fragment === 'later' && rest.protocol === 6 && offset < 20;
      expected = judged.verdict === 'allow' && (own.has(src) || linkLocal) && !overlap ? 'allow' : 'deny';
    }
    seen[`${parsed.kind} ${expected}`] = (seen[`${parsed.kind} ${expected}`] ?? 0) + 1;
    // The other hooks judge nothing here; they must bear the same bytes.
    const other = random.pick(['toPod', 'uplink'] as const);
    const passed = kernel.run(bytes, other).retval;
    if (passed !== -1) t.fail(`FUZZ_SEED=${random.seed}, packet ${i}: ${other} answers ${passed}`);
    if (verdict === expected) continue;
    t.fail(`FUZZ_SEED=${random.seed}, packet ${i}: ${verdict}, the reference says ${expected}`);
    t.comment(JSON.stringify({ parsed, events: result.events, frame: bytes.toString('hex') }));
    return;
  }
  t.pass(JSON.stringify(seen));
  t.ok((seen['packet allow'] ?? 0) > PACKETS / 20, 'many pass');
  t.ok((seen['bad deny'] ?? 0) > PACKETS / 50, 'many are broken');
});
