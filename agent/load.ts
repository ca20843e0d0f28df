import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AgentError } from '../src/errors.js';
import type { Logger } from '../src/log.js';
import type { Closing } from './closing.js';
import { build } from './kernel/build.js';
import { KernelClock } from './kernel/clock.js';
import { type BpfMap, possibleCpus } from './kernel/libbpf/map.js';
import { checkBpffs, load, type Programs } from './kernel/loader.js';
import { DirectoryLock } from './kernel/lock.js';
import { nameSettings } from './names/settings.js';
import type { AgentOptions } from './options.js';

/** Paths of the BPF programs' sources and of the object built with the agent, in a checkout and in an installation. */
function paths(): { bpfDir: string; shipped: string } {
  const dist = fileURLToPath(new URL('..', import.meta.url));
  return { bpfDir: join(dist, '../bpf'), shipped: join(dist, 'bpf/egress.bpf.o') };
}

/** The agent's handles in the kernel: programs, maps, clock. */
export interface Kernel extends Programs {
  readonly time: KernelClock;
  /** @throws AgentError LAYOUT if the object has no map of this name */
  map(name: string): BpfMap;
}

/** Locks the pin directory, builds the programs if they are not cached, and loads them. */
export function loadPrograms(options: AgentOptions, log: Logger, closing: Closing): Kernel {
  checkBpffs(options.pinDir);
  closing.holdLock(DirectoryLock.pins(options.pinDir));
  const object = build({ ...paths(), cacheDir: join(options.runDir, 'bpf') });
  log.info('programs', { how: object.how, object: object.path });
  const programs = load({
    objectPath: object.path,
    pinDir: options.pinDir,
    sizes: options.mapSizes,
    logDir: options.runDir,
  });
  closing.add(() => programs.close());
  programs.names.configure(
    nameSettings(options, possibleCpus(readFileSync('/sys/devices/system/cpu/possible', 'utf8'))),
  );
  const map = (name: string) => {
    const found = programs.maps[name];
    if (!found) throw new AgentError('LAYOUT', `the object has no map ${name}`);
    return found;
  };
  return { ...programs, time: new KernelClock(programs.programs.clock), map };
}
