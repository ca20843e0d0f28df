/** Frames by the hundred thousand from a network namespace (flood.c): each of another flow. */
import { buildC, run } from './shell.js';

/** 16 bits of the frame that take `many` values from `first` on. */
export interface Field {
  /** From the beginning of the link-layer header, bytes. */
  readonly at: number;
  readonly first?: number;
  readonly many: number;
  /** Where the checksums are that cover it. One that is 0 stays so: UDP's may be left out. */
  readonly sums?: readonly number[];
}

export interface Flood {
  readonly device?: string;
  /** How many frames. */
  readonly count: number;
  /** Frames a second; as fast as it goes if not given. */
  readonly rate?: number;
}

let binary: Promise<string> | undefined;

/**
 * Returns when all has been sent.
 * @param frame link-layer header first
 * @param fields the first one counts fastest
 */
export async function flood(
  netns: string,
  frame: Buffer,
  fields: readonly Field[],
  opts: Flood,
): Promise<{ sent: number; seconds: number }> {
  binary ??= buildC('test/netns/flood.c');
  const args = fields.map(({ at, first = 0, many, sums = [] }) => [at, first, many, ...sums].join(':'));
  const { stdout } = await run('nsenter', [
    `--net=/run/netns/${netns}`,
    await binary,
    opts.device ?? 'eth0',
    String(opts.count),
    String(opts.rate ?? 0),
    frame.toString('hex'),
    ...args,
  ]);
  const [sent = 0, seconds = 0] = stdout.trim().split(' ').map(Number);
  return { sent, seconds };
}
