/** What the parts of the strict parser have in common: how a frame can be read, and where its pod is. */
import { formatBytes16 } from '../../src/net/addr.js';

export interface Ends {
  src: string;
  to: string;
  protocol: number;
  fragment: 'none' | 'first' | 'later';
  /** Of a later fragment, in bytes. */
  offset: number;
}

export type Reading =
  | { kind: 'bad'; why: string }
  | { kind: 'link'; doubt?: string }
  | ({ kind: 'packet'; port: number; doubt?: string } & Ends);

/** Where the pod is, and who else is there. */
export interface Site {
  readonly mac: string;
  readonly own: ReadonlySet<string>;
  /** The bridge's MAC; undefined: a link to the node alone. */
  readonly gateway?: string;
  /** MACs of the node's other pods, by their addresses. */
  readonly neighbours: ReadonlyMap<string, string>;
  /** Addresses of nodes, this one's too. */
  readonly nodes: ReadonlySet<string>;
  readonly ownNode: ReadonlySet<string>;
  /** UDP ports that nodes unwrap. */
  readonly tunnels: ReadonlySet<number>;
}

export function macOf(b: Buffer, at: number): string {
  return b.toString('hex', at, at + 6).replace(/..(?=.)/g, '$&:');
}

export function isLinkLocal(address: string): boolean {
  return /^fe[89ab].:/.test(address);
}

/** RFC 4291, appendix A. */
export function linkLocalOf(mac: string): string {
  const b = Buffer.from(mac.replaceAll(':', ''), 'hex');
  const id = [(b[0] as number) ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]];
  return formatBytes16(Uint8Array.from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, ...(id as number[])]), 6);
}
