/**
 * Labels of service accounts. Felix gives each pod those of its account, under `pcsa.` (libcalico-go, conversion.go); here a
 * question about one becomes the accounts of which it is true, by namespace and name. An account that nobody has described has no labels.
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

/** The same selector without a question about labels of accounts. @param asked is told of each label asked for */
export function resolveAccounts(
  selector: Selector,
  accounts: readonly Account[],
  asked: (label: string) => void,
): Selector {
  switch (selector.op) {
    case 'all':
    case 'global':
      return selector;
    case 'not':
      return noneOf(resolveAccounts(selector.of, accounts, asked));
    case 'and':
    case 'or':
      return { op: selector.op, of: selector.of.map((s) => resolveAccounts(s, accounts, asked)) };
    default: {
      const { key } = selector;
      if (!key.startsWith(OF_ACCOUNT) || key === OF_ACCOUNT + NAME) return selector;
      const label = key.slice(OF_ACCOUNT.length);
      asked(label);
      const says = ({ labels }: Account) => holds(selector, Object.hasOwn(labels, label) ? labels[label] : undefined);
      // What is true without the label is true of every account but some.
      return holds(selector, undefined)
        ? noneOf(oneOf(accounts.filter((a) => !says(a))))
        : oneOf(accounts.filter(says));
    }
  }
}

/** The pods of these accounts: namespaces whose accounts have the same names stand together. */
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
