/** Packets by the hundred thousand through a loaded program, from a process of its own (hammer.c). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mapInfo } from '../../agent/kernel/libbpf/map.js';
import type { Programs } from '../../agent/kernel/loader.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { parseAddr } from '../../src/net/addr.js';
import { frame } from '../engines/packets.js';
import { buildC } from '../netns/shell.js';

const ACK = 16;
const ETHERNET = 14;
const VERDICTS: Readonly<Record<Verdict['verdict'], number>> = {
  allow: ENUMS.ea_verdict.EA_VERDICT_ALLOW,
  deny: ENUMS.ea_verdict.EA_VERDICT_DENY,
  partial: ENUMS.ea_verdict.EA_VERDICT_PARTIAL,
};

/** Builds a C program of this directory; returns its path. */
export function cProgram(name: string): Promise<string> {
  return buildC(`test/proof/${name}.c`);
}

/** A flow of its own each time, judged anew: it and its events must be one of these. Undefined where it cannot be told apart. */
export function eachLine(packet: Packet, src: string, may: readonly Verdict[]): string | undefined {
  const { family, bytes } = parseAddr(packet.to);
  const header = ETHERNET + (family === 4 ? 20 : 40);
  const sportAt = packet.protocol === 1 || packet.protocol === 58 ? header + 4 : packet.protocol === 47 ? 0 : header;
  if (packet.fragment || sportAt === 0) return undefined;
  const outcomes = may.map((v) => `${VERDICTS[v.verdict]}/${v.rule}`).join();
  const bytesOf = frame(packet, { src, sport: 1 }).toString('hex');
  return `each ${sportAt} ${Buffer.from(bytes).toString('hex')} ${packet.port} ${packet.protocol} ${outcomes} ${bytesOf}`;
}

/** Over and over, where all verdicts are the same: a known flow, or a fragment, which is judged each time. */
export function repeatLine(packet: Packet, src: string, sport: number, may: readonly Verdict[], repeat: number) {
  const verdict = may[0]?.verdict;
  if (verdict === 'partial' || may.some((v) => v.verdict !== verdict)) return undefined;
  const fragment = packet.fragment ? { fragment: { offset: 1480, more: false, id: sport } } : {};
  const bytes = frame(packet, { src, sport, tcpFlags: ACK, ...fragment }).toString('hex');
  return `${verdict === 'allow' ? 'pass' : 'drop'} ${repeat} ${bytes}`;
}

export interface HammerCounts {
  packets: number;
  /** Events whose verdict and rule were compared. */
  told: number;
  wrong: number;
}

export class Hammer {
  #errors = '';
  #output = '';
  private constructor(private readonly child: ChildProcess) {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
  }

  /** Runs as soon as this resolves. @param listen whether it reads the ring: one process alone can */
  static async start(
    binary: string,
    cpu: number,
    programs: Programs,
    lines: readonly string[],
    listen: boolean,
  ): Promise<Hammer> {
    const id = (name: string) => String(mapInfo(programs.maps[name]?.fd ?? -1).id);
    const program = String(programs.programs.fromPod.id);
    const args = [String(cpu), program, listen ? id('events') : '0', id('counters')];
    const hammer = new Hammer(spawn(binary, args, { stdio: ['pipe', 'pipe', 'pipe'] }));
    hammer.child.stdin?.on('error', () => undefined);
    hammer.child.stdin?.write(`${lines.join('\n')}\ngo\n`);
    await once(hammer.child.stdout as NodeJS.ReadableStream, 'data');
    return hammer;
  }

  /** Its counts, and what it had to complain of. */
  async stop(): Promise<HammerCounts & { complaints: string[] }> {
    this.child.stdin?.end();
    const [code] = (await once(this.child, 'close')) as [number | null];
    if (code !== 0) throw new Error(`the hammer ended with ${code}: ${this.#errors}`);
    const counts = JSON.parse(this.#output.slice(this.#output.indexOf('{'))) as HammerCounts;
    return { ...counts, complaints: this.#errors.split('\n').filter(Boolean) };
  }
}
