/** Reads every policy map back and compares it with the Image: a missing key must not be a silent, permanent drop. */
import { classRow, fixedRows, portEntries } from '../src/image/rows.js';
import type { Image, PolicySet } from '../src/image/types.js';
import * as encode from './encode.js';
import type { EndpointTable } from './endpoint-table.js';
import type { BpfMap } from './libbpf/map.js';

/** Differences reported one by one; more are only counted. */
const SHOWN = 20;

/**
 * @param repair writes what is missing or wrong and deletes what should not be there
 * @returns one line a difference
 */
export function verifyMaps(
  maps: Record<string, BpfMap>,
  image: Image,
  endpoints: EndpointTable,
  repair: boolean,
): string[] {
  const wanted = expected(image);
  const out: string[] = [];
  for (const [name, entries] of wanted) {
    const map = encode.map(maps, name);
    const missing: [Buffer, Buffer][] = [];
    const seen = new Set<string>();
    const extra: Buffer[] = [];
    for (const { keys, values, count } of map.batches()) {
      for (let i = 0; i < count; i++) {
        const key = Buffer.from(keys.subarray(i * map.keySize, (i + 1) * map.keySize));
        const id = key.toString('latin1');
        const want = entries.get(id);
        if (!want) extra.push(key);
        else if (!want.equals(values.subarray(i * map.valueSize, (i + 1) * map.valueSize))) missing.push([key, want]);
        seen.add(id);
      }
    }
    for (const [id, value] of entries) if (!seen.has(id)) missing.push([Buffer.from(id, 'latin1'), value]);
    for (const [key] of missing) out.push(`${name}[${key.toString('hex')}] is missing or wrong`);
    for (const key of extra) out.push(`${name}[${key.toString('hex')}] should not be there`);
    if (!repair) continue;
    for (const [key, value] of missing) map.update(key, value);
    if (extra.length > 0) map.deleteBatch(Buffer.concat(extra), extra.length);
  }
  for (const line of endpoints.verify(repair)) out.push(line);
  if (out.length > SHOWN) out.splice(SHOWN, out.length, `${out.length - SHOWN} more`);
  return out;
}

/** Map name → key bytes (as latin1 text) → value bytes. */
function expected(image: Image): Map<string, Map<string, Buffer>> {
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
  ]) {
    table(name);
  }
  const put = (name: string, keySize: number, valueSize: number, write: (key: Buffer, value: Buffer) => void) => {
    const key = Buffer.alloc(keySize);
    const value = Buffer.alloc(valueSize);
    write(key, value);
    table(name).set(key.toString('latin1'), value);
  };
  for (const set of image.sets.values()) expectSet(set, image, put);
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
  return out;
}

function expectSet(
  set: PolicySet,
  image: Image,
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
  // By the Image alone: the books of who wrote them may be what is wrong.
  const classRows = [...image.classes].flatMap(([id, atoms]) => {
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
