/** DNS messages by hand (RFC 1035), for attacks. */
import { addr, be16, be32 } from './craft.js';

export const A = 1;
export const AAAA = 28;
const CNAME = 5;
const IN = 1;

export interface Question {
  id: number;
  name: string;
  type: number;
}

function wire(name: string): Buffer {
  const labels = name.split('.').filter((label) => label !== '');
  return Buffer.concat([...labels.map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l)])), Buffer.of(0)]);
}

const question = (q: Question) => Buffer.concat([wire(q.name), be16(q.type, IN)]);

export function query(q: Question): Buffer {
  return Buffer.concat([be16(q.id, 0x0100, 1, 0, 0, 0), question(q)]);
}

export interface Answer extends Question {
  address: string;
  /** Whose address it is; the question's name if not given. */
  owner?: string;
  /** In place of QR, RD and RA. */
  flags?: number;
  /** A CNAME from the question's name to the owner comes first. */
  alias?: boolean;
}

export function answer(a: Answer): Buffer {
  const owner = a.owner ?? a.name;
  const data = addr(a.address);
  const record = (name: string, type: number, content: Buffer) =>
    Buffer.concat([wire(name), be16(type, IN), be32(300), be16(content.length), content]);
  const records = [
    ...(a.alias ? [record(a.name, CNAME, wire(owner))] : []),
    record(owner, data.length === 4 ? A : AAAA, data),
  ];
  return Buffer.concat([be16(a.id, a.flags ?? 0x8180, 1, records.length, 0, 0), question(a), ...records]);
}

/** As messages are sent over TCP: the length first. */
export function framed(message: Buffer): Buffer {
  return Buffer.concat([be16(message.length), message]);
}
