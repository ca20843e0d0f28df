/** Rules in Suricata's language: those about the name in a TLS handshake or in a Host header, and those about packets. */
import { ALWAYS, type Condition, doubtful, only } from '../base/conditions.js';
import { plainName } from '../base/domains.js';
import type { Domain } from '../base/region.js';
import { Region } from '../base/region.js';
import { TCP_PORTS } from '../base/spans.js';
import { HTTP, TLS } from '../base/speech.js';
import type { Header } from './header.js';

export interface SuricataRule {
  readonly action: 'pass' | 'drop' | 'reject' | 'alert';
  readonly header: Header;
  /** What the options ask for. */
  readonly options: Condition;
  /** The name that is asked for. */
  readonly domain?: Domain;
}

/** Lines of rules, with their numbers from 1; those that end with a backslash are joined. */
export function suricataLines(text: string): { text: string; line: number }[] {
  const out: { text: string; line: number }[] = [];
  let held = '';
  let first = 0;
  text.split(/\r?\n/).forEach((raw, i) => {
    if (held === '') first = i + 1;
    if (raw.endsWith('\\')) {
      held += raw.slice(0, -1);
      return;
    }
    const line = (held + raw).trim();
    held = '';
    if (line !== '' && !line.startsWith('#')) out.push({ text: line, line: first });
  });
  if (held.trim() !== '') out.push({ text: held.trim(), line: first });
  return out;
}

const WORD = String.raw`(!?\[[^\s()]*\]|[^\s()]+)`;
const RULE = new RegExp(
  String.raw`^(pass|drop|reject|alert)\s+(\S+)\s+${WORD}\s+${WORD}\s+(?:->|<>)\s+${WORD}\s+${WORD}\s*\((.*)\)$`,
);

/** Options that do not choose packets. */
const SILENT = new Set(['msg', 'sid', 'rev', 'gid', 'classtype', 'priority', 'metadata', 'reference', 'noalert']);
const BUFFERS = new Map([
  ['tls.sni', TLS],
  ['tls_sni', TLS],
  ['http.host', HTTP],
  ['http_host', HTTP],
]);
const MODIFIERS = new Set(['nocase', 'startswith', 'endswith', 'dotprefix', 'fast_pattern']);
const FLOW = /^(to_server|from_client|established)(\s*,\s*(to_server|from_client|established))*$/;

/** @returns undefined if it cannot be read */
export function readRule(line: string): SuricataRule | undefined {
  // White space in lists is allowed, and would split the words.
  const found = RULE.exec(
    line.replace(/^[^(]*/, (head) =>
      head
        .replace(/\s*,\s*/g, ',')
        .replace(/\[\s+/g, '[')
        .replace(/\s+\]/g, ']'),
    ),
  );
  if (!found) return undefined;
  const [, action, protocol, source, sourcePort, destination, destinationPort, rest] = found as string[] as [
    string,
    SuricataRule['action'],
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const options = optionsOf(rest);
  if (!options) return undefined;
  const { condition, domain } = meaning(options, protocol);
  const header = { protocol, source, sourcePort, destination, destinationPort };
  return { action, header, options: condition, ...(domain ? { domain } : {}) };
}

interface Option {
  readonly key: string;
  readonly value: string;
}

/** `key; key:value; …`, where quotes and backslashes hide a semicolon. */
function optionsOf(text: string): Option[] | undefined {
  const out: Option[] = [];
  let at = 0;
  const part = /\s*((?:"(?:[^"\\]|\\.)*"|\\.|[^";\\])*);/y;
  while (at < text.length) {
    part.lastIndex = at;
    const found = part.exec(text);
    if (!found) return text.slice(at).trim() === '' ? out : undefined;
    at = part.lastIndex;
    const [option = ''] = found.slice(1);
    const colon = option.indexOf(':');
    const key = (colon < 0 ? option : option.slice(0, colon)).trim();
    if (key !== '') out.push({ key, value: colon < 0 ? '' : option.slice(colon + 1).trim() });
  }
  return out;
}

function meaning(options: readonly Option[], protocol: string): { condition: Condition; domain?: Domain } {
  const asks = options.filter(({ key, value }) => !SILENT.has(key) && !(key === 'flow' && FLOW.test(value)));
  if (asks.length === 0) return { condition: ALWAYS };
  const odd = asks.find(({ key }) => !BUFFERS.has(key) && !MODIFIERS.has(key) && key !== 'content');
  if (odd) return { condition: doubtful(`asks for ${odd.key.slice(0, 40)}, which no policy does`) };
  const buffers = asks.filter(({ key }) => BUFFERS.has(key));
  const contents = asks.filter(({ key }) => key === 'content');
  if (buffers.length !== 1 || contents.length !== 1 || asks[0] !== buffers[0])
    return { condition: doubtful('asks for several things, or for the content of a packet') };
  const has = (key: string) => asks.some((one) => one.key === key);
  const domain = domainOf(contents[0]!.value, has);
  if (!domain || !['tls', 'http', 'http1', 'tcp', 'ip'].includes(protocol))
    return {
      condition: doubtful(`content ${contents[0]!.value.slice(0, 60)} is not a name, or the end of one at a dot`),
    };
  const speech = BUFFERS.get(buffers[0]!.key)!;
  return { condition: only({ names: Region.of([domain]), speech, ports: TCP_PORTS }), domain };
}

function domainOf(content: string, has: (key: string) => boolean): Domain | undefined {
  const text = /^"([^"\\|]*)"$/.exec(content)?.[1];
  if (text === undefined || !has('endswith')) return undefined;
  const dot = text.startsWith('.');
  const name = plainName(dot ? text.slice(1) : text);
  if (name === undefined) return undefined;
  if (has('dotprefix')) return dot ? { name, own: true, below: !has('startswith') } : undefined;
  if (dot) return has('startswith') ? undefined : { name, own: false, below: true };
  return has('startswith') ? { name, own: true, below: false } : undefined;
}
