/** How connections name their servers: in a TLS hello, as the host of an HTTP request, or not at all. */

export const KINDS = ['tls', 'http', 'other'] as const;
export type Kind = (typeof KINDS)[number];

/** Kinds of connections. */
export type Speech = Readonly<Record<Kind, boolean>>;

export const EVERY_SPEECH: Speech = { tls: true, http: true, other: true };
/** Those that may name a server. */
export const NAMING: Speech = { tls: true, http: true, other: false };
export const TLS: Speech = { tls: true, http: false, other: false };
export const HTTP: Speech = { tls: false, http: true, other: false };
/** What Squid sees of CONNECT: a tunnel, in which a client may say what it likes but a request. */
export const TUNNEL: Speech = { tls: true, http: false, other: true };

export function andSpeech(a: Speech, b: Speech): Speech {
  if (a === b || b === EVERY_SPEECH) return a;
  if (a === EVERY_SPEECH) return b;
  return { tls: a.tls && b.tls, http: a.http && b.http, other: a.other && b.other };
}

export function notSpeech({ tls, http, other }: Speech): Speech {
  return { tls: !tls, http: !http, other: !other };
}

export function noSpeech(speech: Speech): boolean {
  return KINDS.every((kind) => !speech[kind]);
}

export function isEverySpeech(speech: Speech): boolean {
  return KINDS.every((kind) => speech[kind]);
}

const TEXTS: Readonly<Record<Kind, string>> = {
  tls: 'TLS connection',
  http: 'HTTP request',
  other: 'connection that is neither TLS nor HTTP',
};

/** `TLS connection and HTTP request`; for messages. */
export function speechText(kinds: readonly Kind[]): string {
  return kinds.map((kind) => TEXTS[kind]).join(' and ');
}
