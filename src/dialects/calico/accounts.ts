/**
 * Labels of service accounts. Felix gives each pod the labels of its account with the prefix `pcsa.` (libcalico-go,
 * conversion.go). Here, a requirement on such a label is replaced by the accounts that fulfil it, by namespace and
 * name. An account without an object has no labels.
 */
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { ACCOUNT, holds, NAME, NAMESPACE, noneOf, NOTHING, OF_ACCOUNT } from './meaning.js';
import type { Selector } from './selector.js';

export interface Account {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function readAccount({ namespace, name, object }: RawPolicy): Account {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const labels = isRecord(metadata.labels) ? metadata.labels : {};
  const texts = Object.entries(labels).filter((e): e is [string, string] => typeof e[1] === 'string');
  return { namespace: namespace ?? 'default', name, labels: Object.fromEntries(texts) };
}

/** The same selector without requirements on labels of accounts. @param onLabel is called for each such label */
export function resolveAccounts(
  selector: Selector,
  accounts: readonly Account[],
  onLabel: (label: string) => void,
): Selector {
  switch (selector.op) {
    case 'all':
    case 'global':
      return selector;
    case 'not':
      return noneOf(resolveAccounts(selector.of, accounts, onLabel));
    case 'and':
    case 'or':
      return { op: selector.op, of: selector.of.map((s) => resolveAccounts(s, accounts, onLabel)) };
    default: {
      const { key } = selector;
      if (!key.startsWith(OF_ACCOUNT) || key === OF_ACCOUNT + NAME) return selector;
      const label = key.slice(OF_ACCOUNT.length);
      onLabel(label);
      const says = ({ labels }: Account) => holds(selector, Object.hasOwn(labels, label) ? labels[label] : undefined);
      // If the requirement holds without the label, it holds for every account except some.
      return holds(selector, undefined)
        ? noneOf(oneOf(accounts.filter((a) => !says(a))))
        : oneOf(accounts.filter(says));
    }
  }
}

/** The pods of these accounts. Namespaces with the same account names are grouped. */
function oneOf(accounts: readonly Account[]): Selector {
  const byNamespace = new Map<string, string[]>();
  for (const { namespace, name } of accounts) {
    const names = byNamespace.get(namespace);
    if (names) names.push(name);
    else byNamespace.set(namespace, [name]);
  }
  const byNames = new Map<string, { names: string[]; namespaces: string[] }>();
  for (const [namespace, names] of byNamespace) {
    const key = names.sort().join();
    const same = byNames.get(key);
    if (same) same.namespaces.push(namespace);
    else byNames.set(key, { names, namespaces: [namespace] });
  }
  const of = [...byNames.values()].map(({ names, namespaces }): Selector => {
    const where: Selector = { op: 'in', key: NAMESPACE, values: namespaces.sort() };
    return { op: 'and', of: [where, { op: 'in', key: ACCOUNT, values: names }] };
  });
  return of.length === 0 ? NOTHING : of.length === 1 ? (of[0] as Selector) : { op: 'or', of };
}
