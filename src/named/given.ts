/** Names that a user gives in place of what an agent has learned: `NAME=IP`, or a file of them. */
import { readFileSync } from 'node:fs';
import { AgentError } from '../errors.js';
import type { Learned, LearnedName } from '../ir/packet.js';
import { tryCanonicalAddr } from '../net/addr.js';
import { canonicalName } from '../names/pattern.js';

/** A name with its addresses. */
export interface GivenName {
  readonly name: string;
  readonly ips: readonly string[];
}

/** Parses `NAME=IP[,IP…]`. @throws AgentError USAGE */
export function parseGiven(text: string): GivenName {
  const at = text.indexOf('=');
  const ips = text.slice(at + 1).split(',');
  if (at <= 0) throw usage(`${text}: not NAME=IP`);
  return { name: nameOf(text.slice(0, at)), ips: ips.map((ip) => addressOf(ip.trim(), text)) };
}

/**
 * Reads a file: lines `NAME IP…` or `NAME=IP`, empty ones, and comments behind `#`; or the output of
 * `egressctl names -o json`.
 * @throws AgentError USAGE
 */
export function readGiven(path: string): GivenName[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (e) {
    throw usage(`${path} cannot be read: ${(e as Error).message}`);
  }
  if (text.trimStart().startsWith('{')) return fromJson(text, path);
  return text.split('\n').flatMap((line, i) => {
    const words = line.replace(/#.*/, '').trim();
    if (words === '') return [];
    try {
      if (words.includes('=')) return [parseGiven(words)];
      const [name = '', ...ips] = words.split(/\s+/);
      if (ips.length === 0) throw usage(`${words}: not NAME IP`);
      return [{ name: nameOf(name), ips: ips.map((ip) => addressOf(ip, words)) }];
    } catch (e) {
      throw usage(`${path}:${i + 1}: ${(e as Error).message}`);
    }
  });
}

/** What a sender has learned, if it has learned all of these. */
export function learnedFrom(from: string, given: readonly GivenName[]): Learned {
  const addresses = new Map<string, LearnedName[]>();
  for (const { name, ips } of given) {
    for (const ip of ips) {
      const names = addresses.get(ip);
      if (!names) addresses.set(ip, [{ name }]);
      else if (!names.some((n) => n.name === name)) names.push({ name });
    }
  }
  return new Map([[from, addresses]]);
}

function fromJson(text: string, path: string): GivenName[] {
  let list: unknown;
  try {
    list = (JSON.parse(text) as { names?: unknown }).names;
  } catch (e) {
    throw usage(`${path} is no JSON: ${(e as Error).message}`);
  }
  if (!Array.isArray(list)) throw usage(`${path} has no list "names"`);
  return list.map((entry: { name?: unknown; addresses?: { ip?: unknown }[] }, i) => {
    const where = `${path}: names[${i}]`;
    if (typeof entry?.name !== 'string' || !Array.isArray(entry.addresses))
      throw usage(`${where} has no name or addresses`);
    return { name: nameOf(entry.name), ips: entry.addresses.map(({ ip }) => addressOf(String(ip), where)) };
  });
}

/** Whether a text looks like a DNS name: it has a dot, and is no address. */
export function isDnsName(text: string): boolean {
  const labels = text.replace(/\.$/, '').split('.');
  if (text.length > 254 || !text.includes('.') || !labels.every((label) => /^[A-Za-z0-9_-]{1,63}$/.test(label)))
    return false;
  return !/^\d+$/.test(labels.at(-1) as string);
}

function nameOf(text: string): string {
  const name = canonicalName(text.trim());
  if (name === '' || name.length > 253 || /[?\s]|\.\./.test(name)) throw usage(`${text} is no DNS name`);
  return name;
}

function addressOf(text: string, where: string): string {
  const ip = tryCanonicalAddr(text);
  if (ip === undefined) throw usage(`${where}: ${text === '' ? 'an address is missing' : `${text} is not an address`}`);
  return ip;
}

function usage(message: string): AgentError {
  return new AgentError('USAGE', message, { hint: 'for example api.example.com=203.0.113.10' });
}
