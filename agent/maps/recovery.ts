/** Reads the content of the pinned maps, so that a new agent continues where the last one stopped. */
import type { Destinations4, Destinations6, ImageService, PolicySet } from '../../src/image/types.js';
import { fixedRows, LAST_FIXED_CLASS, portEntries } from '../../src/image/rows.js';
import * as encode from './tables/encode.js';
import type { FlatTrie } from './tables/flat-trie.js';
import type { Journal } from './books/journal.js';
import { RuleNames } from './books/rule-names.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import { HttpPrograms } from './tables/http-cells.js';
import type { ServiceFilter } from './tables/service-filter.js';

/** What the maps contain, by the bookkeeping of this agent. */
export interface RecoveredMaps {
  /** Sets whose rows are complete. */
  sets: Map<number, PolicySet>;
  /** Those that a destination or a row names, or may name soon. */
  classes: Map<number, readonly string[]>;
  /** Ids of classes in the maps that the journal does not have: their atoms are unknown. */
  unknownClasses: Set<number>;
  /** Set id → ids of the classes that have a row of their own. */
  rows: Map<number, Set<number>>;
  destinations4: Destinations4;
  destinations6: Destinations6;
  services: ReadonlyMap<string, ImageService>;
  rules: RuleNames;
  /** Entries of sets that the journal does not have, or that are incomplete: deleted unless an Image has the set. */
  strangers: { set: number; remove: () => number }[];
}

/**
 * Reads the maps. Blocks for a grace period if `flat` must be repaired. Throws KERNEL.
 * @param flat the trie that packets read, repaired to match the map `destinations4`; undefined: nothing is written
 * @param filter the filter of Services, repaired to match the map `services`; undefined: nothing is written
 */
export function recover(
  maps: Record<string, BpfMap>,
  journal: Journal | undefined,
  flat?: Pick<FlatTrie, 'restore'>,
  filter?: Pick<ServiceFilter, 'restore'>,
): RecoveredMaps {
  const journaled = journal?.read() ?? { sets: new Map(), classes: new Map(), rules: new Map() };
  const rules = keysBySet(maps, 'rules', encode.ruleKeySet);
  const ports = keysBySet(maps, 'port_rules', encode.portKeySet);
  const portsLarge = keysBySet(maps, 'port_rules_large', encode.portKeySet);
  const rowKeys = keysBySet(maps, 'class_rules', encode.classKeySet);
  const rowKeysLarge = keysBySet(maps, 'class_rules_large', encode.classKeySet);

  const programs = HttpPrograms.of(maps);
  programs.restore();
  const sets = new Map<number, PolicySet>();
  const rows = new Map<number, Set<number>>();
  const strangers: RecoveredMaps['strangers'] = [];
  const keysByMap = [
    ['rules', rules],
    ['port_rules', ports],
    ['port_rules_large', portsLarge],
    ['class_rules', rowKeys],
    ['class_rules_large', rowKeysLarge],
  ] as const;
  for (const id of new Set([...keysByMap.flatMap(([, bySet]) => [...bySet.keys()]), ...programs.ids])) {
    const set = journaled.sets.get(id);
    const classKeys = set ? ((set.large ? rowKeysLarge : rowKeys).get(id) ?? []) : [];
    const classes = classKeys.map(encode.classKeyClass);
    const fixed = new Set(set ? fixedRows(set).map(([classId]) => classId) : []);
    const complete =
      set !== undefined &&
      !(set.says && !programs.has(id)) &&
      (rules.get(id)?.length ?? 0) === set.rules.length &&
      ((set.large ? portsLarge : ports).get(id)?.length ?? 0) === portEntries(set).length &&
      [...fixed].every((classId) => classes.includes(classId));
    if (set && complete) {
      sets.set(id, set);
      rows.set(id, new Set(classes.filter((c) => !fixed.has(c))));
      continue;
    }
    strangers.push({
      set: id,
      remove: () => {
        let n = 0;
        for (const [name, bySet] of keysByMap) {
          const keys = bySet.get(id) ?? [];
          if (keys.length > 0) encode.map(maps, name).deleteBatch(Buffer.concat(keys), keys.length);
          n += keys.length;
        }
        return n + programs.remove([id]);
      },
    });
  }

  const destinations4 = dump4(encode.map(maps, 'destinations4'));
  flat?.restore(destinations4);
  const services = dumpServices(encode.map(maps, 'services'));
  filter?.restore(services.values());
  const destinations6 = dump6(encode.map(maps, 'destinations6'));
  // The journal also has classes that are gone from the maps, or of which nothing was written yet.
  const classes = new Map<number, readonly string[]>();
  const unknownClasses = new Set<number>();
  const noteClass = (id: number) => {
    if (id <= LAST_FIXED_CLASS || classes.has(id)) return;
    const atoms = journaled.classes.get(id);
    classes.set(id, atoms ?? []);
    if (!atoms) unknownClasses.add(id);
  };
  destinations4.classes.forEach(noteClass);
  destinations6.classes.forEach(noteClass);
  for (const classIds of rows.values()) classIds.forEach(noteClass);
  return {
    sets,
    classes,
    unknownClasses,
    rows,
    destinations4,
    destinations6,
    services,
    rules: new RuleNames(journaled.rules),
    strangers,
  };
}

/** Keys of a map, grouped by set id. */
function keysBySet(maps: Record<string, BpfMap>, name: string, setOf: (key: Buffer) => number): Map<number, Buffer[]> {
  const map = encode.map(maps, name);
  const out = new Map<number, Buffer[]>();
  for (const { keys, count } of map.batches()) {
    for (let i = 0; i < count; i++) {
      const key = Buffer.from(keys.subarray(i * map.keySize, (i + 1) * map.keySize));
      const id = setOf(key);
      const list = out.get(id);
      if (list) list.push(key);
      else out.set(id, [key]);
    }
  }
  return out;
}

/** The map `destinations4`, sorted by key. */
export function dump4(map: BpfMap): Destinations4 {
  const pairs: [number, number][] = [];
  for (const { keys, values, count } of map.batches()) {
    for (let i = 0; i < count; i++) {
      pairs.push([encode.readDest4(keys, i * map.keySize), encode.readId(values, i * map.valueSize)]);
    }
  }
  pairs.sort((a, b) => a[0] - b[0]);
  return { keys: Float64Array.from(pairs, (p) => p[0]), classes: Float64Array.from(pairs, (p) => p[1]) };
}

/** The map `destinations6`, sorted by key. */
export function dump6(map: BpfMap): Destinations6 {
  const pairs: [string, number][] = [];
  for (const { keys, values, count } of map.batches()) {
    for (let i = 0; i < count; i++) {
      pairs.push([encode.readDest6(keys, i * map.keySize), encode.readId(values, i * map.valueSize)]);
    }
  }
  pairs.sort((a, b) => (a[0] < b[0] ? -1 : 1));
  return { keys: pairs.map((p) => p[0]), classes: Float64Array.from(pairs, (p) => p[1]) };
}

/** The map `services`, by `address|port|protocol`. */
export function dumpServices(map: BpfMap): Map<string, ImageService> {
  const out = new Map<string, ImageService>();
  for (const { keys, values, count } of map.batches()) {
    for (let i = 0; i < count; i++) {
      const service = encode.readService(keys, i * map.keySize, values, i * map.valueSize);
      out.set(`${service.ip}|${service.port}|${service.protocol}`, service);
    }
  }
  return out;
}
