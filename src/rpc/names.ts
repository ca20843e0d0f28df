/** Learned names in messages of egress.v1. */
import { ruleMessage, timestamp } from '../flow/hubble.js';
import type { LearnedNameMessage, NamesRequest, NamesResponse, Timestamp } from '../proto/messages.js';
import type { NamesStatusMessage } from '../proto/status.js';
import type { AgentView, LearnedView, NamesQuery, NamesStatus } from './view.js';

/** Names in an answer, by default and at most. */
export const DEFAULT_NAMES = 1000;
const MOST_NAMES = 5000;

/** Answers a NamesRequest. @throws AgentError USAGE */
export async function namesResponse(view: AgentView, request: NamesRequest, nodeName: string): Promise<NamesResponse> {
  const { names, more } = await view.names(queryOf(request));
  return { names: names.map((name) => nameMessage(name, nodeName)), ...(more ? { more } : {}) };
}

export function namesStatusMessage(s: NamesStatus): NamesStatusMessage {
  return {
    names: s.names,
    pages: s.pages,
    share: s.share,
    page_share: s.pageShare,
    refused: s.refused,
    overflow: s.overflow,
    untrusted: s.untrusted,
    seeded: s.seeded,
    resolvers: s.resolvers.map(({ ip, port, source }) => ({ address: ip, port, source })),
    seen: s.seen.map(({ ip, ...rest }) => ({ address: ip, ...rest })),
    dns_events_lost: s.dnsEventsLost,
  };
}

function queryOf({ pod, name, ip, limit }: NamesRequest): NamesQuery {
  const wanted = Math.min(limit || DEFAULT_NAMES, MOST_NAMES);
  const given = (text: string | undefined) => (text === '' ? undefined : text);
  return { pod: given(pod), name: given(name), ip: given(ip), limit: wanted };
}

function nameMessage(n: LearnedView, nodeName: string): LearnedNameMessage {
  return {
    pod: n.pod,
    name: n.name,
    asked: n.asked,
    seeded: n.seeded,
    learned_at: millis(n.learnedAt),
    answered_at: millis(n.answeredAt),
    expires_at: millis(n.expiresAt),
    resolver: n.resolver,
    addresses: n.addresses.map(({ ip, alias, expiresAt, ttl }) => ({ ip, alias, expires_at: millis(expiresAt), ttl })),
    rules: n.rules.map(ruleMessage),
    node_name: nodeName,
  };
}

function millis(ms: number): Timestamp {
  return timestamp(BigInt(Math.round(ms)) * 1_000_000n);
}
