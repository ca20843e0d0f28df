/**
 * Whether a request's path means the same to everybody. Servers decode, clean and cut paths in different ways; a rule
 * about paths is worth something only for those that all of them leave as they are (RFC 3986, 3.3 and 6.2.2).
 */

const UNRESERVED = /^[-A-Za-z0-9._~]$/;
/** What some servers decode before they look for the ends of segments, of parameters, or of C strings. */
const NEVER_ENCODED = /^[/\\;\0]$/;

/**
 * Whether it is a canonical path with an optional query: it starts with `/`; no segment but the last is empty, none is
 * `.` or `..`; no backslash, no `;`; percent signs only before two hexadecimal digits, which stand neither for an
 * unreserved character nor for `/`, `\`, `;` or NUL. In the query, percent signs and these characters do not matter.
 * Nowhere is there a control character, a space, `#`, or a byte above 0x7e. @param path one byte a character
 */
export function isCanonicalPath(path: string): boolean {
  if (!/^\/[\x21\x22\x24-\x7e]*$/.test(path)) return false;
  const end = path.indexOf('?');
  const only = end < 0 ? path : path.slice(0, end);
  if (/\/\/|[\\;]|\/\.\.?(?:\/|$)|%(?![0-9A-Fa-f]{2})/.test(only)) return false;
  for (const [, hex] of only.matchAll(/%(..)/g)) {
    const byte = String.fromCharCode(Number.parseInt(hex!, 16));
    if (UNRESERVED.test(byte) || NEVER_ENCODED.test(byte)) return false;
  }
  return true;
}
