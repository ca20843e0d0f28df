/**
 * What a connection says of itself, as rules ask for it: the server name of a TLS or QUIC hello, or an HTTP/1 request.
 * evaluate() judges by this; compile() makes rows of the same conditions.
 */
import { matchesName } from '../names/pattern.js';
import { hostName, NO_NAME } from '../said/name.js';
import { TCP, UDP } from '../net/protocol.js';
import { matchesRegex } from '../regex/match.js';
import type { Packet, Said, SaidRequest } from './packet.js';
import type { NamesPeer } from './peers.js';
import type { HttpHeader, HttpMatch, Rule } from './types.js';

/**
 * What is known of what a packet's connection says. `met`: not known, and taken as what every rule asks for; `opening`:
 * as what every rule asks for that does not deny.
 */
export type Heard = Known | 'opening';
type Known = Said | 'nothing' | 'met';

/** What the packet's connection says. Only TCP has a handshake in which nothing is said. */
export function saidOf({ said, protocol, query }: Pick<Packet, 'said' | 'protocol' | 'query'>): Said | 'nothing' {
  return said ?? (protocol === TCP && query === undefined ? 'nothing' : { kind: 'other' });
}

/** What a connection says, as far as a rule listens. */
export function heardBy({ action, quic }: Pick<Rule, 'action' | 'quic'>, heard: Heard, protocol: number): Known {
  if (heard === 'opening') return action === 'deny' ? 'nothing' : 'met';
  if (typeof heard !== 'object' || heard.kind !== 'tls') return heard;
  if (quic === 'reject' && protocol === UDP) return 'nothing';
  // Whom nobody knows may be whom a rule denies, and need not be whom it allows.
  return heard.hidden && action !== 'deny' ? 'nothing' : heard;
}

/** Whether a rule asks what a connection says. */
export function asksForSaid(rule: Rule): boolean {
  return rule.serverNames !== undefined || rule.http !== undefined || (rule.peers?.some(verifies) ?? false);
}

function verifies(peer: NonNullable<Rule['peers']>[number]): boolean {
  if (peer.kind === 'all') return peer.of.some(verifies);
  return peer.kind === 'names' && peer.verify !== undefined;
}

/** Whether the audit verdict of a rule may differ from its verdict: a peer is verified for the audit only. */
export function isAudited(rule: Rule): boolean {
  const audits = (peer: NonNullable<Rule['peers']>[number]): boolean =>
    peer.kind === 'all' ? peer.of.some(audits) : peer.kind === 'names' && peer.verify === 'audit';
  return rule.serverNames === undefined && (rule.peers?.some(audits) ?? false);
}

/** Whether what a connection says is what the rule's `serverNames` and `http` ask for. */
export function saidMatches({ serverNames, http }: Pick<Rule, 'serverNames' | 'http'>, heard: Known): boolean {
  if (serverNames === undefined && http === undefined) return true;
  if (heard === 'nothing') return false;
  if (heard === 'met') return (serverNames?.length ?? 0) + (http?.length ?? 0) > 0;
  if (heard.kind === 'tls' && heard.hidden) return (serverNames?.length ?? 0) > 0;
  if (heard.kind === 'tls') return heard.serverName !== undefined && matchesAny(serverNames ?? [], heard.serverName);
  return heard.kind === 'http' && (http ?? []).some((match) => requestMatches(match, heard));
}

/**
 * Whether a connection names a server that a peer admits, as far as the peer asks for it.
 * @param audit whether the audit verdict is asked for
 */
export function isVerified({ patterns, verify }: NamesPeer, heard: Known, audit: boolean): boolean {
  if (verify === undefined || (verify === 'audit' && !audit)) return true;
  if (heard === 'nothing') return false;
  if (heard === 'met') return true;
  // Only rules that deny hear of it: heardBy().
  if (heard.kind === 'tls' && heard.hidden) return patterns.length > 0;
  const name = nameSaid(heard);
  return name === undefined ? verify !== 'strict' : matchesAny(patterns, name);
}

/** The name of the server that a connection asks for, in lower case. One that is no name, such as an address, is `?`. */
export function nameSaid(said: Said): string | undefined {
  if (said.kind === 'tls') return said.serverName;
  return said.kind === 'http' && said.host !== undefined ? (hostName(said.host) ?? NO_NAME) : undefined;
}

function matchesAny(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => matchesName(pattern, name));
}

/** Whether a request is what an entry of a rule asks for. */
export function requestMatches({ method, path, host, headers = [] }: HttpMatch, said: SaidRequest): boolean {
  return (
    (method === undefined || matchesRegex(method, said.method)) &&
    (path === undefined || matchesRegex(path, said.path)) &&
    (host === undefined || matchesRegex(host, said.host ?? '')) &&
    headers.every((header) => headerMatches(header, said))
  );
}

/** Whether the request has a header as asked for. */
export function headerMatches({ name, value, not }: HttpHeader, said: SaidRequest): boolean {
  const lines = said.headers.filter(([one]) => one === name).map(([, text]) => text);
  const met = lines.length > 0 && (value === undefined || matchesRegex(value, lines.join(',')));
  return met !== (not === true);
}
