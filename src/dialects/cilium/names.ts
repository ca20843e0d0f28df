/** Translates FQDNSelectors, the items of toFQDNs and of rules.dns (pkg/policy/api/fqdn.go). */
import { ciliumPattern, exactName, type Report } from '../base/names.js';

export interface NameSpec {
  readonly matchName?: string;
  readonly matchPattern?: string;
}

/** Pattern of the names that the selector means; undefined, with an error, if it is invalid. */
export function patternOf({ matchName, matchPattern }: NameSpec, field: string, report: Report): string | undefined {
  if (matchName !== undefined && matchPattern !== undefined) {
    const hint = 'make an item of each';
    report({ severity: 'error', field, message: 'has a matchName and a matchPattern', hint });
    return undefined;
  }
  if (matchName !== undefined) return exactName(matchName, `${field}.matchName`, report);
  if (matchPattern !== undefined) return ciliumPattern(matchPattern, `${field}.matchPattern`, report);
  report({ severity: 'error', field, message: 'names nothing', hint: 'give it a matchName or a matchPattern' });
  return undefined;
}
