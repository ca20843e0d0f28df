/** Containers for tests: an image made from a debootstrap root, once for each release, and what runs in it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Host, PROBE } from '../netns/host.js';
import { run, until } from '../netns/shell.js';

/** runc, since crun refuses hybrid cgroups; limits that need no CAP_SYS_RESOURCE. */
export const RUN = ['--runtime', 'runc', 'run', '--rm', '--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=4096:4096'];

/** What the agent needs beside Node: libbpf. No clang: the shipped object is used. iproute2 and python3: for the tests. */
const PACKAGES = 'python3,iproute2,libbpf1';

/** The name of the image; builds it if podman has none yet (half a minute). */
export async function image(): Promise<string> {
  const release = /^VERSION_CODENAME=(.+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'bookworm';
  const name = `localhost/egress-agent-test:${release}`;
  if ((await run('podman', ['image', 'exists', name], { check: false })).status === 0) return name;
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-root-'));
  try {
    await run('debootstrap', ['--variant=minbase', `--include=${PACKAGES}`, release, join(dir, 'root')]);
    const pack = `tar -C ${dir}/root --exclude=./var/cache/apt/archives --exclude=./var/lib/apt/lists -c . | podman import - ${name}`;
    await run('bash', ['-o', 'pipefail', '-c', pack]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return name;
}

export class Container {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** The process id of its first process, as the host numbers it, once it runs. */
  pid(): Promise<number> {
    return until(`container ${this.name} runs`, async () => {
      const { stdout, status } = await run('podman', ['inspect', '-f', '{{.State.Pid}}', this.name], { check: false });
      return status === 0 && Number(stdout) > 0 && Number(stdout);
    });
  }

  async remove(): Promise<void> {
    await run('podman', ['--runtime', 'runc', 'rm', '-f', '-t', '1', this.name], { check: false });
  }
}

/**
 * A pod: a container with a network namespace of its own, empty as yet, and a probe that makes traffic inside.
 * Closing the host leaves the container.
 */
export async function podContainer(name: string, imageName: string): Promise<{ container: Container; host: Host }> {
  const container = new Container(name);
  const options = ['-d', '--name', name, '--network', 'none', '--cap-add', 'NET_RAW', '-v', `${PROBE}:/probe.py:ro`];
  await run('podman', [...RUN, ...options, imageName, 'sleep', 'infinity']);
  const netns = `/proc/${await container.pid()}/ns/net`;
  return {
    container,
    host: new Host(netns, ['podman', '--runtime', 'runc', 'exec', '-i', name, 'python3', '-B', '/probe.py']),
  };
}
