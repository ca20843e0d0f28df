/** Compares every policy map with the Image: a missing key must not drop packets silently for ever. */
import { classRow, fixedRows, portEntries } from '../../src/image/rows.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import type { AddressMaps } from './address-maps.js';
import * as encode from './tables/encode.js';
import type { EndpointTable } from './tables/endpoint-table.js';
import { FlatTrie } from './tables/flat-trie.js';
import { Leftovers } from './books/leftovers.js';
import type { NameClasses } from './name-maps.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import { HttpPrograms } from './tables/http-cells.js';
import { ServiceFilter } from './tables/service-filter.js';

/** Differences reported one by one; more are only counted. */
const MAX_REPORTED = 20;

/**
 * @param places the content that `addresses` and `tunnels` should have
 * @param flat the trie of IPv4 destinations; by default one that nobody else writes
 * @param filter the filter of Services; by default one that nobody else writes
 * @param nameClasses classes of the matcher of names, for which sets have rows; the matcher itself is not compared
 * @param repair writes missing or wrong entries and deletes surplus ones
 * @returns one line a difference
 */
export function verifyMaps(
  maps: Record<string, BpfMap>,
  image: Image,
  endpoints: EndpointTable,
  places: AddressMaps['wanted'],
  repair: boolean,
  flat = new FlatTrie(maps, new Leftovers()),
  filter = new ServiceFilter(maps),
  nameClasses: NameClasses = new Map(),
): string[] {
  const wanted = expectedEntries(image, places, nameClasses);
  const out = filter.differences(image.services.values());
  if (repair) filter.add(image.services.values());
  for (const [name, entries] of wanted) {
    const map = encode.map(maps, name);
    const missing: [Buffer, Buffer][] = [];
    const foundKeys = new Set<string>();
    const extra: Buffer[] = [];
    for (const { keys, values, count } of map.batches()) {
      for (let i = 0; i < count; i++) {
        const key = Buffer.from(keys.subarray(i * map.keySize, (i + 1) * map.keySize));
        const id = key.toString('latin1');
        const expected = entries.get(id);
        if (!expected) extra.push(key);
        else if (!expected.equals(values.subarray(i * map.valueSize, (i + 1) * map.valueSize)))
          missing.push([key, expected]);
        foundKeys.add(id);
      }
    }
    for (const [id, value] of entries) if (!foundKeys.has(id)) missing.push([Buffer.from(id, 'latin1'), value]);
    for (const [key] of missing) out.push(`${name}[${key.toString('hex')}] is missing or wrong`);
    for (const key of extra) out.push(`${name}[${key.toString('hex')}] should not be there`);
    if (!repair) continue;
    for (const [key, value] of missing) map.update(key, value);
    if (extra.length > 0) map.deleteBatch(Buffer.concat(extra), extra.length);
  }
  if (repair) filter.restore(image.services.values());
  for (const line of HttpPrograms.of(maps).differences([...image.sets.values()], repair)) out.push(line);
  const trieDifferences = flat.differences(image.destinations4);
  for (const line of trieDifferences) out.push(line);
  if (repair && trieDifferences.length > 0) flat.restore(image.destinations4);
  for (const line of endpoints.verify(repair)) out.push(line);
  if (out.length > MAX_REPORTED) out.splice(MAX_REPORTED, out.length, `${out.length - MAX_REPORTED} more`);
  return out;
}

/** Map name → key bytes (as latin1 text) → value bytes. */
function expectedEntries(
  image: Image,
  { addresses, tunnels }: AddressMaps['wanted'],
  nameClasses: NameClasses,
): Map<string, Map<string, Buffer>> {
  const out = new Map<string, Map<string, Buffer>>();
  const table = (name: string) => {
    let t = out.get(name);
    if (!t) out.set(name, (t = new Map()));
    return t;
  };
  for (const name of [
    'rules',
    'class_rules',
    'class_rules_large',
    'port_rules',
    'port_rules_large',
    'destinations4',
    'destinations6',
    'services',
    'addresses',
    'tunnels',
  ]) {
    table(name);
  }
  const put = (name: string, keySize: number, valueSize: number, write: (key: Buffer, value: Buffer) => void) => {
    const key = Buffer.alloc(keySize);
    const value = Buffer.alloc(valueSize);
    write(key, value);
    table(name).set(key.toString('latin1'), value);
  };
  const classes = [...image.classes, ...nameClasses];
  for (const set of image.sets.values()) expectSet(set, classes, put);
  const { ID_SIZE, SIZES } = encode;
  image.destinations4.keys.forEach((k, i) => {
    put('destinations4', SIZES.dest4Key, ID_SIZE, (key, value) => {
      encode.writeDest4(key, 0, k);
      encode.writeId(value, 0, image.destinations4.classes[i] as number);
    });
  });
  image.destinations6.keys.forEach((k, i) => {
    put('destinations6', SIZES.dest6Key, ID_SIZE, (key, value) => {
      encode.writeDest6(key, 0, k);
      encode.writeId(value, 0, image.destinations6.classes[i] as number);
    });
  });
  for (const service of image.services.values()) {
    put('services', SIZES.serviceKey, SIZES.service, (key, value) => encode.writeService(service, key, 0, value, 0));
  }
  for (const [ip, address] of addresses) {
    put('addresses', SIZES.addressKey, SIZES.address, (key, value) =>
      encode.writeAddress(ip, address, key, 0, value, 0),
    );
  }
  for (const tunnel of tunnels.values()) {
    put('tunnels', SIZES.tunnelKey, SIZES.tunnel, (key, value) => encode.writeTunnel(tunnel, key, 0, value, 0));
  }
  return out;
}

function expectSet(
  set: PolicySet,
  classes: readonly (readonly [number, readonly string[]])[],
  put: (name: string, keySize: number, valueSize: number, write: (key: Buffer, value: Buffer) => void) => void,
): void {
  const suffix = set.large ? '_large' : '';
  const { SIZES } = encode;
  const rowSize = set.large ? SIZES.rowLarge : SIZES.rowSmall;
  set.rules.forEach((rule, bit) => {
    put('rules', SIZES.ruleKey, SIZES.rule, (key, value) => {
      encode.writeRuleKey(key, 0, set.id, bit);
      encode.writeRule(value, 0, rule);
    });
  });
  for (const entry of portEntries(set)) {
    put(`port_rules${suffix}`, SIZES.portKey, rowSize, (key, value) => {
      encode.writePortKey(key, 0, set.id, entry);
      encode.writeRow(value, 0, entry.row);
    });
  }
  // From the Image alone: the bookkeeping may be the cause of the difference.
  const classRows = classes.flatMap(([id, atoms]) => {
    const row = classRow(set, atoms);
    return row ? [[id, row] as const] : [];
  });
  for (const [classId, row] of [...fixedRows(set), ...classRows]) {
    put(`class_rules${suffix}`, SIZES.classKey, rowSize, (key, value) => {
      encode.writeClassKey(key, 0, set.id, classId);
      encode.writeRow(value, 0, row);
    });
  }
}
