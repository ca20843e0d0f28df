/** The pinned maps of a test world's agent, read by another process and compared with what the manifests ask for. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AddressBook } from '../../agent/maps/books/address-book.js';
import { AddressMaps } from '../../agent/maps/address-maps.js';
import { EndpointTable } from '../../agent/maps/tables/endpoint-table.js';
import { Journal } from '../../agent/maps/books/journal.js';
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { Leftovers } from '../../agent/maps/books/leftovers.js';
import { idsInMaps } from '../../agent/maps/clash.js';
import { recover } from '../../agent/maps/recovery.js';
import { patternAtoms } from '../../src/image/names.js';
import { planMatcher } from '../../src/image/plan/names.js';
import { verifyMaps } from '../../agent/maps/verify.js';
import { MapWriter } from '../../agent/maps/writer.js';
import { nodeKey } from '../../agent/maps/books/node-key.js';
import { broadcastAddresses } from '../../agent/endpoints/uplinks.js';
import { Compiler } from '../../src/compile/index.js';
import { toIr } from '../../src/dialects/index.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { sizeOf } from '../../src/image/edited.js';
import { keyedIds } from '../../src/ids.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import type { World } from '../netns/world.js';
import { snapshotOf } from '../policy/world.js';

const OBJ_GET = 7;

function pinned(path: string): BpfMap {
  const attr = Buffer.alloc(24);
  const text = Buffer.from(`${path}\0`);
  attr.writeBigUInt64LE(sys.address(text), 0);
  return new BpfMap(sys.bpf(OBJ_GET, attr, text), path.slice(path.lastIndexOf('/') + 1));
}

/** The maps under a world's pins, by name. They are to be closed. */
export function pinnedMaps(world: World): Record<string, BpfMap> {
  const shapes = join(world.pinDir, 'maps');
  const [shape, ...others] = readdirSync(shapes);
  if (shape === undefined || others.length > 0) throw new Error(`${shapes} holds ${1 + others.length} sets of maps`);
  const names = readdirSync(join(shapes, shape)).filter((n) => n !== 'counters');
  return Object.fromEntries(names.map((name) => [name, pinned(join(shapes, shape, name))]));
}

/** Where pods are only the agent knows: that they are somewhere, and nobody else is. */
function placesOf(
  maps: Record<string, BpfMap>,
  { nodes, tunnels }: Image,
  local: readonly string[],
  { pods }: Snapshot,
) {
  const held = new AddressMaps(maps, new MapWriter(maps), new Leftovers()).wanted.addresses;
  const bindings = local.map((key, id): EndpointBinding => {
    const ips = pods.get(key)?.ips ?? [];
    const ifindex = ips.map((ip) => held.get(ip)?.ifindex).find((index) => index) ?? 0;
    return { key, uid: key, ifindex, ifname: '', id, mac: '', ips, kind: 'pod', l3: false };
  });
  return { addresses: new AddressBook(new Map()).update(nodes, bindings), tunnels };
}

/** @returns what the maps hold too much or too little, and how much they hold */
export async function leftOver(world: World): Promise<{ differences: string[]; size: string }> {
  const text = readdirSync(world.manifests)
    .filter((f) => f.endsWith('.yaml'))
    .map((f) => readFileSync(join(world.manifests, f), 'utf8'))
    .join('\n---\n');
  const addresses = JSON.parse((await world.node.run('ip', ['-j', 'addr'])).stdout) as {
    addr_info: { family: string; local: string; prefixlen: number }[];
  }[];
  const broadcasts = broadcastAddresses(
    addresses.flatMap((a, ifindex) =>
      a.addr_info.map((i) => ({
        family: i.family === 'inet6' ? (6 as const) : (4 as const),
        address: i.local,
        prefix: i.prefixlen,
        ifindex,
        scope: 0,
      })),
    ),
  );
  const own = addresses.flatMap((a) => a.addr_info.map((i) => i.local)).filter((ip) => !/^(127\.|::1$|fe80:)/.test(ip));
  const plain = snapshotOf(text, own);
  const snapshot = { ...plain, ownNode: { ...plain.ownNode, broadcasts } };
  const local = [...snapshot.pods].filter(([, p]) => p.nodeName === 'node-a').map(([key]) => key);
  const maps = pinnedMaps(world);
  try {
    const found = recover(maps, new Journal(join(world.dir, 'run/journal')));
    const ids = idsInMaps(found, keyedIds(nodeKey(join(world.dir, 'run')).key));
    const image = new Compiler(ids).compile(toIr(snapshot).ir, snapshot, [...local, NODE_SENDER]);
    const map = (name: string) => maps[name] as BpfMap;
    const table = new EndpointTable(map('endpoints'), map('endpoints_more'), map('sources'), false);
    const patterns = patternAtoms(image.sets.values());
    const { classes } = planMatcher(patterns, ids, (id) => [found.classes.get(id)]);
    const places = placesOf(maps, image, local, snapshot);
    const differences = verifyMaps(maps, image, table, places, false, undefined, undefined, classes);
    if (found.unknownClasses.size > 0)
      differences.push(`${found.unknownClasses.size} classes that the journal does not know`);
    const strangers = found.strangers.length;
    if (strangers > 0) differences.push(`${strangers} sets that are incomplete or unknown`);
    const kept = readdirSync(join(world.dir, 'run/journal/sets')).length;
    if (kept !== image.sets.size) differences.push(`the journal keeps ${kept} sets, ${image.sets.size} are in force`);
    const destinations = sizeOf(found.destinations4) + sizeOf(found.destinations6);
    const endpoints = table.strangers().length;
    const size = `sets=${found.sets.size} endpoints=${endpoints} destinations=${destinations}`;
    return { differences, size };
  } finally {
    for (const map of Object.values(maps)) map.close();
  }
}
