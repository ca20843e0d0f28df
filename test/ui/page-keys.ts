/** The keys of sessions, which pages send along with their cookies. */

/** By cookie, `name=value`. */
const keys = new Map<string, string>();

/** Keeps the key of a session. @param body of the answer to a login @returns the cookie */
export function remember(cookie: string | undefined, body: string): string {
  const pair = (cookie ?? '').split(';')[0] as string;
  const { key } = JSON.parse(body) as { key?: string };
  if (key !== undefined) keys.set(pair, key);
  return pair;
}

/** The headers of a page with this cookie. */
export function pageHeaders(cookie: string | undefined): Record<string, string> {
  const key = keys.get(cookie ?? '');
  return key === undefined ? {} : { 'x-egress-page': key };
}

/** A script that puts the key where a page looks for it. */
export function keyScript(cookie: string): string {
  return `localStorage.setItem('egress-page', ${JSON.stringify(keys.get(cookie) ?? '')})`;
}
