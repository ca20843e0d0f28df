/** Patterns of DNS names. A pure module: the browser uses it. */

/**
 * Whether a name matches a pattern in which `*` is for any characters, in time of at most their lengths multiplied: both
 * may be chosen by others, and a regular expression of many `*` would keep the page busy for years.
 */
export function matchesGlob(pattern: string, name: string): boolean {
  const [wanted, given] = [pattern.toLowerCase(), name.toLowerCase()];
  // The last `*`, and up to where of the name it reaches.
  let [at, from, star, reach] = [0, 0, -1, 0];
  while (from < given.length) {
    if (wanted[at] === '*') {
      [star, reach] = [at, from];
      at++;
    } else if (at < wanted.length && wanted[at] === given[from]) {
      at++;
      from++;
    } else if (star >= 0) {
      reach++;
      [at, from] = [star + 1, reach];
    } else return false;
  }
  while (wanted[at] === '*') at++;
  return at === wanted.length;
}
