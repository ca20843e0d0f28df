/** Translates Kubernetes label selectors to LabelExpr, with the API server's rules for keys and values. */
import type { LabelExpr } from '../../ir/peers.js';
import type { Fault } from './dialect.js';

/** metav1.LabelSelector with a valid shape. */
export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
    readonly values?: readonly string[];
  }[];
}

const NAME = /^[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/;
const PREFIX = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const TRUE: LabelExpr = { op: 'true' };

/** Translates a selector. An empty one matches everything; several requirements are ANDed. Faults go to `report`. */
export function labelSelector(selector: LabelSelector, path: string, report: (fault: Fault) => void): LabelExpr {
  const of: LabelExpr[] = [];
  const fault = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const checkKey = (key: string, field: string) => {
    if (!isLabelKey(key)) fault(field, `${JSON.stringify(key)} is not a label key`, 'write it as [prefix/]name');
  };
  const checkValue = (value: string, field: string) => {
    if (value !== '' && !NAME.test(value)) {
      fault(field, `${JSON.stringify(value)} is not a label value`, 'use at most 63 letters, digits, "-", "_" and "."');
    }
  };
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    const field = `${path}.matchLabels[${JSON.stringify(key)}]`;
    checkKey(key, field);
    checkValue(value, field);
    of.push({ op: 'in', key, values: [value] });
  }
  (selector.matchExpressions ?? []).forEach(({ key, operator, values }, i) => {
    const field = `${path}.matchExpressions[${i}]`;
    checkKey(key, `${field}.key`);
    const some = values !== undefined && values.length > 0;
    if (operator === 'In' || operator === 'NotIn') {
      if (!some)
        fault(`${field}.values`, `${operator} needs at least one value`, 'add values, or use Exists or DoesNotExist');
      values?.forEach((v, j) => checkValue(v, `${field}.values[${j}]`));
      of.push({ op: operator === 'In' ? 'in' : 'notin', key, values: values ?? [] });
    } else {
      if (some) fault(`${field}.values`, `${operator} takes no values`, 'remove them, or use In or NotIn');
      of.push({ op: operator === 'Exists' ? 'exists' : 'notexists', key });
    }
  });
  return of.length === 0 ? TRUE : of.length === 1 ? (of[0] as LabelExpr) : { op: 'and', of };
}

function isLabelKey(key: string): boolean {
  const slash = key.indexOf('/');
  if (slash < 0) return NAME.test(key);
  const prefix = key.slice(0, slash);
  return prefix.length <= 253 && PREFIX.test(prefix) && NAME.test(key.slice(slash + 1));
}
