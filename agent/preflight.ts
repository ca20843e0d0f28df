/** Probes what an agent needs of this machine, one by one, and prints the results as JSON for `egressctl doctor`. */
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { AgentError } from '../src/errors.js';
import type { Probe } from '../src/cli/commands/doctor.js';
import { loadConstant } from './kernel/calls.js';
import { ClsactHooks } from './hooks/clsact-hooks.js';
import * as ffi from './kernel/libbpf/ffi.js';
import { kernelError, sys } from './kernel/libbpf/sys.js';
import { load } from './kernel/loader.js';
import { probeTcx } from './hooks/tcx.js';

const BPFFS = '/sys/fs/bpf';
const BPF_FS_MAGIC = 0xcafe4a11;
const SHIPPED = fileURLToPath(new URL('../bpf/egress.bpf.o', import.meta.url));
/** linux/capability.h. SYS_ADMIN, which entering namespaces needs, includes BPF and PERFMON. */
const SYS_ADMIN = 21;
const CAPABILITIES: Readonly<Record<string, number>> = {
  NET_ADMIN: 12,
  NET_BROADCAST: 11,
  SYS_ADMIN,
  BPF: 39,
  PERFMON: 38,
};
const IN_SYS_ADMIN = ['BPF', 'PERFMON'];
const CLONE_NEWNET = 0x40000000;
/** The first device of every network namespace. */
const LOOPBACK = { ifindex: 1, ifname: 'lo' };
const VMLINUX = '/sys/kernel/btf/vmlinux';
/** bpf_loop: 5.17. */
const OLDEST_KERNEL = [5, 17] as const;

type Result = Omit<Probe, 'name'>;
const ok = (detail: string): Result => ({ state: 'ok', detail });
const fail = (detail: string, hint?: string): Result => ({
  state: 'fail',
  detail,
  ...(hint === undefined ? {} : { hint }),
});
const warn = (detail: string, hint?: string): Result => ({
  state: 'warn',
  detail,
  ...(hint === undefined ? {} : { hint }),
});

const failure = (e: unknown): Result => fail((e as Error).message, e instanceof AgentError ? e.hint : undefined);

const PROBES: readonly (readonly [string, () => Result])[] = [
  ['kernel', kernel],
  [
    'BTF',
    () =>
      existsSync(VMLINUX) ? ok(VMLINUX) : fail('the kernel has no BTF', 'it must be built with CONFIG_DEBUG_INFO_BTF'),
  ],
  ['capabilities', capabilities],
  ['bpffs', bpffs],
  ['libbpf', libbpf],
  ['clang', clang],
  ['programs', programs],
  ['connections', connections],
  ['unfinished packets', deferredWrites],
  ['tcx hooks', tcx],
  [
    'Node.js',
    () => (typeof crypto.hash === 'function' ? ok(process.version) : fail(process.version, '20.12 or later is needed')),
  ],
  // The last one: it leaves this process in another network namespace.
  ['clsact hooks', clsact],
];

function kernel(): Result {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const recent = major > OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor >= OLDEST_KERNEL[1]);
  return recent ? ok(release()) : fail(release(), `the programs need ${OLDEST_KERNEL.join('.')} or later`);
}

function capabilities(): Result {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const effective = BigInt(`0x${hex}`);
  const has = (bit: number) => ((effective >> BigInt(bit)) & 1n) === 1n;
  const missing = Object.entries(CAPABILITIES)
    .filter(([name, bit]) => !has(bit) && !(IN_SYS_ADMIN.includes(name) && has(SYS_ADMIN)))
    .map(([name]) => name);
  if (missing.length > 0)
    return fail(`missing: ${missing.join(', ')}`, 'run as root, or give the container these capabilities');
  return ok(Object.keys(CAPABILITIES).join(', '));
}

function bpffs(): Result {
  try {
    if (statfsSync(BPFFS).type === BPF_FS_MAGIC) return ok(`mounted on ${BPFFS}`);
  } catch {
    // Not even a directory.
  }
  return fail(`not mounted on ${BPFFS}`, `mount -t bpf bpf ${BPFFS}`);
}

function libbpf(): Result {
  const library = ffi.library('libbpf.so.1', { libbpf_version_string: ['pointer', []] });
  return ok(ffi.textAt(library.libbpf_version_string() as Buffer).replace(/^v/, ''));
}

function clang(): Result {
  try {
    const text = execFileSync(process.env.CLANG ?? 'clang', ['--version'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return ok(text.split('\n')[0] ?? '');
  } catch {
    const shipped = existsSync(SHIPPED);
    return shipped
      ? warn(
          'not there: the object that was built with the agent is used',
          'apt-get install clang, to compile on the node',
        )
      : fail('not there, and no built object either', 'apt-get install clang');
  }
}

function programs(): Result {
  if (!existsSync(SHIPPED)) return warn('no built object to try', 'npm run build');
  try {
    const startMs = performance.now();
    load({ objectPath: SHIPPED }).close();
    return ok(`the kernel takes them (${Math.round(performance.now() - startMs)} ms)`);
  } catch (e) {
    return failure(e);
  }
}

/** The kfunc that bpf/conntrack.h uses. Without it, the post-DNAT check finds no owner of a masqueraded packet. */
function connections(): Result {
  // Connection tracking is built in, or a module with BTF of its own.
  const btfFiles = [VMLINUX, '/sys/kernel/btf/nf_conntrack'].filter((file) => existsSync(file));
  return btfFiles.some((file) => readFileSync(file).includes('bpf_skb_ct_lookup\0'))
    ? ok('the kernel shows programs the original source of a masqueraded packet')
    : warn(
        'the kernel does not show programs the original source of a masqueraded packet',
        'kernel 6.0 with CONFIG_NF_CONNTRACK does',
      );
}

/**
 * The kfuncs that bpf/skb.h uses. Without them, a pod that chooses where the kernel will write a checksum can have
 * ports changed after the verdict.
 */
function deferredWrites(): Result {
  const btf = readFileSync(VMLINUX);
  return btf.includes('bpf_cast_to_kern_ctx\0') && btf.includes('bpf_rdonly_cast\0')
    ? ok('the kernel shows programs which bytes of a packet it will still write')
    : warn(
        'the kernel does not show programs which bytes it will still write: a pod with CAP_NET_RAW can have ports rewritten after the verdict',
        'kernel 6.2 does; or drop NET_RAW from pods that a policy governs',
      );
}

function tcx(): Result {
  return probeTcx() ? ok('there') : warn('not there: clsact filters are used', 'kernel 6.6 has tcx');
}

/** Attaches a program to the loopback device of a new namespace, which ends with this process. */
function clsact(): Result {
  const libc = ffi.library('libc.so.6', { unshare: ['int', ['int']] });
  if (Number(libc.unshare(CLONE_NEWNET)) < 0) throw kernelError('a network namespace to try them in', ffi.errno());
  const program = loadConstant(-1);
  try {
    const hooks = new ClsactHooks(undefined);
    const hook = { ...LOOPBACK, direction: 'ingress', programFd: program, programId: 0 } as const;
    hooks.put(hook);
    if (hooks.has(hook.ifindex, hook.direction)) return ok('there');
    return warn('a filter was put, and is not there');
  } catch (e) {
    return warn((e as Error).message, 'the kernel needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF');
  } finally {
    sys.close(program);
  }
}

const results = PROBES.map(([name, probe]): Probe => {
  try {
    return { name, ...probe() };
  } catch (e) {
    return { name, ...failure(e) };
  }
});
// One of the two kinds is enough; tcx is preferred.
const [tcxProbe, clsactProbe] = ['tcx hooks', 'clsact hooks'].map((name) => results.find((r) => r.name === name));
if (tcxProbe && tcxProbe.state !== 'ok' && clsactProbe?.state === 'warn') clsactProbe.state = 'fail';
process.stdout.write(`${JSON.stringify(results)}\n`);
