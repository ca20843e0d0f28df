/** egressctl doctor: checks whether an agent can run here. agent/preflight.ts probes the kernel. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { AgentError } from '../../errors.js';
import { EXIT } from '../../exit.js';
import { line, painter, safe, toJson } from '../common/output.js';
import type { Globals } from '../common/globals.js';

/** The result of one check. */
export interface Probe {
  name: string;
  /** `warn`: the agent runs without it, with fewer features. */
  state: 'ok' | 'warn' | 'fail';
  detail: string;
  /** How to fix it. */
  hint?: string;
}

const PREFLIGHT = fileURLToPath(new URL('../../../agent/preflight.js', import.meta.url));
const TIMEOUT_MS = 60_000;

export function doctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description('Check whether an agent can run on this node: kernel, BTF, bpffs, hooks, clang, libbpf, capabilities.')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'))
    .addHelpText('after', '\nExit code: 0 an agent can run here, 1 it cannot. Most checks need root.');
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
    const message = run.stderr?.trim().split('\n').at(-1) ?? run.error?.message ?? '';
    throw new AgentError('INTERNAL', `the checks ended with status ${run.status}: ${message}`);
  }
}
