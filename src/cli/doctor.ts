/** egressctl doctor: can an agent run here? The probes that need the kernel are the agent's own (agent/preflight.ts). */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { AgentError } from '../errors.js';
import { EXIT } from './exit.js';
import { line, painter, safe, toJson } from './output.js';
import type { Globals } from './program.js';

/** One thing that was looked at. */
export interface Probe {
  name: string;
  /** `warn`: works without it, with less. */
  state: 'ok' | 'warn' | 'fail';
  detail: string;
  /** What to do about it. */
  hint?: string;
}

const PREFLIGHT = fileURLToPath(new URL('../../agent/preflight.js', import.meta.url));
const TIMEOUT_MS = 60_000;

export function doctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description(
      'Look whether an agent can run on this machine: kernel, BTF, bpffs, hooks, clang, libbpf, capabilities.',
    )
    .addOption(new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text'))
    .addHelpText('after', '\nExit code: 0 if an agent can run here, 1 if not. Run it as root: most probes need it.');
  command.action(async () => {
    const flags = command.optsWithGlobals<Globals & { output: string }>();
    const probes = preflight();
    if (probes.some((p) => p.state === 'fail')) process.exitCode = EXIT.failed;
    if (flags.output === 'json') {
      await line(toJson({ probes }, 2));
      return;
    }
    const paint = painter(flags.color);
    for (const p of probes) {
      const mark =
        p.state === 'ok' ? paint('green', '✓') : p.state === 'warn' ? paint('yellow', '!') : paint('red', '✗');
      await line(
        `${mark} ${p.name.padEnd(18)} ${safe(p.detail)}${p.hint === undefined ? '' : `\n${' '.repeat(21)}${safe(p.hint)}`}`,
      );
    }
  });
}

function preflight(): Probe[] {
  const run = spawnSync(process.execPath, [PREFLIGHT], { encoding: 'utf8', timeout: TIMEOUT_MS });
  try {
    return JSON.parse(run.stdout) as Probe[];
  } catch {
    const said = run.stderr?.trim().split('\n').at(-1) ?? run.error?.message ?? '';
    throw new AgentError('INTERNAL', `the probes ended with status ${run.status}: ${said}`);
  }
}
