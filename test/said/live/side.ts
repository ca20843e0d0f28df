/** A pod whose programs know names, and an internet that it reaches; nobody filters. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Output, run } from '../../netns/shell.js';
import { type Pod, World } from '../../netns/world.js';

export class Side {
  readonly #hosts: string;

  /** @param hosts names that the pod knows, with an address each */
  protected constructor(
    readonly world: World,
    readonly pod: Pod,
    hosts: Readonly<Record<string, string>>,
  ) {
    this.#hosts = join(world.dir, 'hosts');
    const lines = Object.entries(hosts).map(([name, ip]) => `${ip} ${name}\n`);
    writeFileSync(this.#hosts, lines.join(''));
  }

  /** One without hooks. @param hosts names that the pod knows, with an address each */
  static bare(hosts: Readonly<Record<string, string>>): Promise<Side> {
    return Side.make(async (world, pod) => new Side(world, pod, hosts));
  }

  protected static async make<T>(from: (world: World, pod: Pod) => Promise<T>): Promise<T> {
    const world = await World.create();
    try {
      return await from(world, await world.pod('web'));
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** Runs a command in the pod. @param opts `seconds`: that it may take, 20 if not given */
  run(
    command: readonly string[],
    { seconds = 20, ...opts }: { input?: string; env?: Record<string, string>; seconds?: number } = {},
  ): Promise<Output> {
    const script = 'mount --bind "$0" /etc/hosts && exec "$@"';
    const words = ['unshare', '-m', 'sh', '-c', script, this.#hosts, 'timeout', `${seconds}`, ...command];
    return run('nsenter', [`--net=/run/netns/${this.pod.host.netns}`, ...words], { ...opts, check: false });
  }

  close(): Promise<void> {
    return this.world.close();
  }
}
