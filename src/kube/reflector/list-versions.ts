/**
 * Compares resource versions. They are opaque (API concepts, "Resource versions"), but every server in use counts up in
 * decimal, and Kubernetes 1.35 guarantees it. Therefore decimal versions are compared, and others are only equal or
 * different.
 */

const DECIMAL = /^(0|[1-9]\d{0,37})$/;

/** Whether the version can be compared with others. */
export function isOrdered(version: string | undefined): version is string {
  return version !== undefined && DECIMAL.test(version);
}

/** Negative: `a` is older; 0: the same; positive: newer; undefined: they cannot be compared. */
export function compareVersions(a: string | undefined, b: string | undefined): number | undefined {
  if (a === undefined || b === undefined) return undefined;
  if (a === b) return 0;
  if (!isOrdered(a) || !isOrdered(b)) return undefined;
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : 1;
}

/** The newer of two versions; the second one if they cannot be compared. */
export function newerVersion(a: string | undefined, b: string): string {
  return a !== undefined && (compareVersions(a, b) ?? -1) > 0 ? a : b;
}
