/** Label selectors of filters, as in `kubectl -l` and `hubble -l`: `app=web,tier!=db,env in (a,b),!old,key`. */
import { AgentError } from '../../errors.js';

interface Requirement {
  key: string;
  operator: 'in' | 'notin' | 'exists' | 'absent';
  values: readonly string[];
}

/**
 * Makes a predicate on labels of the form `source:key=value`. A key without a source matches any source.
 * @throws AgentError USAGE
 */
export function labelMatcher(selector: string, field: string): (labels: readonly string[]) => boolean {
  const requirements = parse(selector, field);
  return (labels) => requirements.every((r) => holds(r, labels));
}

function parse(selector: string, field: string): Requirement[] {
  const fail = () =>
    new AgentError('USAGE', `${field}: "${selector}" is not a label selector`, {
      where: { field },
      hint: 'for example app=web,tier!=db or "env in (a,b)"',
    });
  // Commas inside parentheses separate values, other commas separate requirements.
  const parts = selector.match(/[^,(]+(\([^)]*\))?/g)?.map((p) => p.trim()) ?? [];
  if (parts.length === 0 || parts.join(',').replace(/\s/g, '') !== selector.replace(/\s/g, '')) throw fail();
  return parts.map((part): Requirement => {
    const set = /^([^\s!=]+)\s+(in|notin)\s*\(([^)]*)\)$/.exec(part);
    if (set) {
      const values = (set[3] as string).split(',').map((v) => v.trim());
      return { key: set[1] as string, operator: set[2] as 'in' | 'notin', values };
    }
    const equal = /^([^\s!=]+)\s*(==|=|!=)\s*([^\s=]*)$/.exec(part);
    if (equal) {
      return { key: equal[1] as string, operator: equal[2] === '!=' ? 'notin' : 'in', values: [equal[3] as string] };
    }
    const exists = /^(!?)([^\s!=()]+)$/.exec(part);
    if (!exists) throw fail();
    return { key: exists[2] as string, operator: exists[1] === '!' ? 'absent' : 'exists', values: [] };
  });
}

function holds(r: Requirement, labels: readonly string[]): boolean {
  const found = labels.filter((label) => keyMatches(r.key, label)).map(labelValue);
  switch (r.operator) {
    case 'exists':
      return found.length > 0;
    case 'absent':
      return found.length === 0;
    case 'in':
      return found.some((v) => r.values.includes(v));
    case 'notin':
      return !found.some((v) => r.values.includes(v));
  }
}

function labelValue(label: string): string {
  const equals = label.indexOf('=');
  return equals < 0 ? '' : label.slice(equals + 1);
}

/** `reserved:world` has no value: the label itself is the key. `any:app` is `app` of any source. */
function keyMatches(key: string, label: string): boolean {
  const equals = label.indexOf('=');
  const name = equals < 0 ? label : label.slice(0, equals);
  return name === key || name.slice(name.indexOf(':') + 1) === (key.startsWith('any:') ? key.slice(4) : key);
}
