/**
 * Detects ids that an Image gives to other content than the maps have under them. Reads bookkeeping, writes nothing.
 */
import { sameRule } from '../../src/compile/sets.js';
import { contents, sameAtoms, SetFault } from '../../src/image/fault.js';
import { type Ids, idsWith } from '../../src/ids.js';
import type { Image } from '../../src/image/types.js';
import { ruleClash, ruleText } from '../../src/ir/names.js';
import type { RecoveredMaps } from './recovery.js';

/** Ids of the contents in the maps, also if made with another secret; of all other contents, those by `ids`. */
export function idsInMaps({ sets, classes, unknownClasses, rules }: RecoveredMaps, ids: Ids): Ids {
  const idByContent = new Map<string, number>();
  const add = (content: string, id: number) => {
    if (ids.of(content) !== id) idByContent.set(content, id);
  };
  for (const [id, { name }] of sets) add(contents.set(name), id);
  for (const [id, atoms] of classes) if (!unknownClasses.has(id)) add(contents.class(atoms), id);
  for (const [id, ref] of rules.names) add(ruleText(ref), id);
  return idsWith(idByContent, ids);
}

/**
 * The first content of an Image that cannot be written, because other content in the maps has its id: packets would be
 * judged by that. Contents that are in the maps already were checked when they were written.
 * @param changed ids of classes that may be new
 */
export function clashOf(inMaps: RecoveredMaps, image: Image, changed: readonly number[]): SetFault | undefined {
  for (const { id, name, rules } of image.sets.values()) {
    const existing = inMaps.sets.get(id);
    if (existing?.name === name) continue;
    const fault = (why: string) => new SetFault('HASH_COLLISION', why, { sets: [id] });
    if (existing) return fault(`its set and one in the maps have the id ${id}`);
    for (const rule of rules) {
      const [existingRef, ref] = [inMaps.rules.names.get(rule.id), image.rules.get(rule.id)];
      if (existingRef && ref && !sameRule(existingRef, ref)) return fault(ruleClash(existingRef, ref));
    }
  }
  for (const id of changed) {
    const [existingAtoms, atoms] = [inMaps.classes.get(id), image.classes.get(id)];
    if (!existingAtoms || !atoms || sameAtoms(existingAtoms, atoms)) continue;
    const message = `a class of its destinations and one in the maps have the id ${id}`;
    return new SetFault('HASH_COLLISION', message, { classes: [[], atoms] });
  }
  return undefined;
}
