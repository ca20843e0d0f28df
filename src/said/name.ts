/**
 * Names of servers as clients say them: in a server_name extension, in a Host header. Only what a pattern of
 * src/names/pattern.ts could match is a name here; nothing is mended, since a server may mend it in another way.
 */

/** In place of a name that is said and is none: no pattern matches it. */
export const NO_NAME = '?';

/** As in DNS, without the final dot. */
const MAX_NAME = 253;
/** A host, and a port behind it. An address of IPv6 stands in brackets. */
const HOST = /^([-A-Za-z0-9_.]+|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;

/**
 * The name in lower case; undefined if it is empty or longer than 253 bytes, ends with a dot, has a byte other than
 * [-A-Za-z0-9_.], or is an address. An address is what has only digits behind its last dot: no top-level domain has,
 * and the shorter ways to write IPv4 (`127.1`) are caught too.
 */
export function saidName(text: string): string | undefined {
  if (text.length > MAX_NAME || !/^[-A-Za-z0-9_.]+$/.test(text) || /(?:^|\.)[0-9]*$/.test(text)) return undefined;
  return text.toLowerCase();
}

/** A name with a final dot, and a port. */
const MAX_HOST = MAX_NAME + '.:65535'.length;

/**
 * Whether it may be the value of a Host header: `host[:port]`. The host may be an address. What is longer than a name can
 * be would leave no room for the path in what is told of a request.
 */
export function isHost(text: string): boolean {
  return text.length <= MAX_HOST && HOST.test(text);
}

/** The name in a Host header, without the port; undefined if saidName() takes it for none. */
export function hostName(host: string): string | undefined {
  return saidName(HOST.exec(host)?.[1] ?? '');
}
