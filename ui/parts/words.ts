/** Words and numbers for people. */
import type { EdgeInfo, Party } from '../../src/ui/wire/messages.js';

/** IANA numbers of protocols. */
export const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
};

/** `shop/web`, `node n1`, a DNS name, an address, `other`. */
export function partyText(p: Party): string {
  switch (p.kind) {
    case 'workload':
      return `${p.namespace}/${p.name}`;
    case 'service':
      return `svc ${p.namespace}/${p.name}`;
    case 'node':
      return `node ${p.name}`;
    case 'other':
      return 'other';
    default:
      return p.name;
  }
}

/** `443/tcp` */
export function portText({ port, protocol }: Pick<EdgeInfo, 'port' | 'protocol'>): string {
  const name = PROTOCOLS[protocol] ?? String(protocol);
  if (protocol === 1 || protocol === 58) return `${name} ${Math.floor(port / 256)}/${port % 256}`;
  return port === 0 ? name : `${port}/${name}`;
}

/** 1,204. Written hundreds of times a second: what the browser has for it takes long, and 30 ms the first time. */
export function count(n: number): string {
  const [whole = '', fraction] = String(Math.round(n * 1000) / 1000).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/** `1.2 MB` */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let unit = 0;
  let value = n;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `5 s ago`, `3 min ago`, `2 d ago` */
export function ago(ms: number, nowMs: number): string {
  if (ms <= 0) return 'never';
  const seconds = Math.max(0, Math.round((nowMs - ms) / 1000));
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}

/** Local time of day: `12:34:56.789` */
export function timeOfDay(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, '0')}`;
}

/** Control characters, bidi marks and characters without width: names are chosen by others. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** A text of somebody else, as it can be shown: without what changes the text around it, and not without end. */
export function shown(text: string, most = 200): string {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  return cut.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
