/**
 * What pods learned, as users write it: the addresses of each name that a pod asked for, with the targets of CNAMEs in
 * the answer as `aliases`.
 *
 *   shop/web:
 *     api.example.com: [203.0.113.10, 2001:db8::10]
 *     www.example.com: {aliases: [cdn.example.net], addresses: [203.0.113.11]}
 */
import { isRecord } from '../../identity/fields.js';
import type { Learned, LearnedName } from '../../ir/packet.js';
import { canonicalName } from '../../names/pattern.js';
import { tryCanonicalAddr } from '../../net/addr.js';

/** Reports a fault. @param field within what is read, such as `shop/web.api.example.com` */
type Fault = (field: string, message: string, hint?: string) => void;

const HINT = 'for example api.example.com: [203.0.113.10]';

/** Reads what pods learned. What cannot be read is reported and left out. */
export function readLearned(value: unknown, fault: Fault): Map<string, ReadonlyMap<string, readonly LearnedName[]>> {
  const learned = new Map<string, ReadonlyMap<string, readonly LearnedName[]>>();
  if (!isRecord(value)) {
    fault('', 'must say for each pod what it learned', `shop/web: {${HINT.replace('for example ', '')}}`);
    return learned;
  }
  for (const [pod, names] of Object.entries(value)) {
    if (isRecord(names))
      learned.set(
        pod,
        namesOf(names, (at, message) => fault(`${pod}.${at}`, message, HINT)),
      );
    else fault(pod, 'must be a map of names', HINT);
  }
  return learned;
}

function namesOf(names: Record<string, unknown>, fault: (field: string, message: string) => void) {
  const known = new Map<string, LearnedName[]>();
  for (const [name, value] of Object.entries(names)) {
    const { addresses, aliases = [], ...others } = isRecord(value) ? value : { addresses: value };
    if (!areTexts(addresses) || !areTexts(aliases) || Object.keys(others).length > 0) {
      fault(name, 'must be a list of addresses, or have addresses and aliases');
      continue;
    }
    const own: LearnedName[] = [
      { name: canonicalName(name) },
      ...aliases.map((alias): LearnedName => ({ name: canonicalName(alias), alias: true })),
    ];
    for (const text of addresses) {
      const address = tryCanonicalAddr(text);
      if (address === undefined) fault(name, `${text} is no address`);
      else known.set(address, [...(known.get(address) ?? []), ...own]);
    }
  }
  return known;
}

function areTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

/** The addresses that an endpoint learned for a name, as one that it asked for. @param name as users write it */
export function addressesOf(learned: Learned, endpoint: string, name: string): string[] {
  const wanted = canonicalName(name);
  return [...(learned.get(endpoint) ?? [])]
    .filter(([, names]) => names.some((one) => !one.alias && one.name === wanted))
    .map(([address]) => address);
}
