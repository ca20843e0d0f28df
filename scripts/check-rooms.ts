/**
 * npm run check: the direction of imports. Directories of src/, agent/ and ui/ are rooms; a file may import (types too) from
 * its own room and from rooms above it in the list below. Reports each other import, each cycle, and rooms and files
 * that are too large.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

/** All rooms, the lowest layer first. */
const ROOMS = [
  // Rooms that need neither root nor a kernel.
  'src',
  'src/net',
  'src/proto',
  'src/names',
  'src/regex',
  'src/said',
  'src/identity',
  'src/identity/files',
  'src/ir',
  'src/explain',
  'src/named',
  'src/image',
  'src/image/plan',
  'src/compile/atoms',
  'src/compile/destinations',
  'src/compile',
  'src/dialects/base',
  'src/dialects/networkpolicy',
  'src/dialects/clusternetworkpolicy',
  'src/dialects/fqdn',
  'src/dialects/cilium',
  'src/dialects/calico',
  'src/dialects',
  'src/kube/client',
  'src/kube/reflector',
  'src/kube',
  'src/flow/event',
  'src/flow/names',
  'src/flow/filter',
  'src/flow/hub',
  'src/flow',
  'src/edges',
  'src/rpc/transport',
  'src/rpc/sample',
  'src/rpc/ask',
  'src/rpc',
  'src/history/base',
  'src/history/engines',
  'src/history',
  'src/staging',
  'src/staging/live',
  'src/export/base',
  'src/export/sinks',
  'src/export',
  'src/tools/names',
  'src/tools',
  'src/tools/lint',
  'src/tools/policies',
  'src/convert/terms',
  'src/convert/targets',
  'src/convert/proof',
  'src/convert',
  'src/import/base',
  'src/import/targets',
  'src/import/squid',
  'src/import/aws',
  'src/import/istio',
  'src/import',
  'src/recommend/base',
  'src/recommend/rules',
  'src/recommend/targets',
  'src/recommend',
  'src/relay/nodes',
  'src/relay/merge',
  'src/relay/edges',
  'src/relay/certs',
  'src/relay',
  'src/ui/wire',
  'src/ui/text',
  'src/ui/graph',
  'src/ui/access',
  'src/ui/http',
  'src/ui/feeds',
  'src/ui/why',
  'src/ui/policies',
  'src/ui/api',
  'src/ui',
  'src/cli/common',
  'src/cli/flows',
  'src/cli/cluster',
  'src/cli/commands',
  'src/cli/lists',
  'src/cli/history',
  'src/cli/recommend',
  'src/cli/staging',
  'src/cli/ui',
  'src/cli',
  // The agent. The loader creates the readers of the tables: so agent/events and agent/names are below agent/kernel.
  'agent/kernel/libbpf',
  'agent/events',
  'agent/names',
  'agent/kernel',
  'agent/netlink',
  'agent/maps/books',
  'agent/maps/tables',
  'agent/maps',
  'agent/gate/cni',
  'agent/endpoints/evidence',
  'agent/endpoints/binding',
  'agent/endpoints',
  'agent/ledger',
  'agent/hooks',
  'agent/gate',
  'agent/resolvers',
  'agent/ask',
  'agent/serve',
  'agent',
  // The web page: it runs in browsers, and shares with its server the types of what they say to each other.
  'ui/style',
  'ui/style/screens',
  'ui/parts',
  'ui/state',
  'ui/frame',
  'ui/why',
  'ui/flows',
  'ui/graph',
  'ui/editor',
  'ui/board',
  'ui/recommend',
  'ui/status',
  'ui',
];

const MAX_FILES = 12;
const MAX_LINES = 400;
const IMPORT = /(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']+)\.js'/g;

const root = fileURLToPath(new URL('../..', import.meta.url));
const layers = new Map(ROOMS.map((room, n) => [room, n]));
const faults: string[] = [];

/** File → the files that it imports, by their paths from the root. */
const imports = new Map<string, string[]>();
for (const top of ['src', 'agent', 'ui']) {
  for (const entry of readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })) {
    const file = join(top, entry);
    if (!/\.(tsx?|css)$/.test(file)) continue;
    const text = readFileSync(join(root, file), 'utf8');
    const targets = [...text.matchAll(IMPORT)].map(([, to]) => {
      const target = normalize(join(dirname(file), to as string));
      return existsSync(join(root, `${target}.tsx`)) ? `${target}.tsx` : `${target}.ts`;
    });
    imports.set(file, targets);
    const lines = text.split('\n').length - 1;
    if (lines > MAX_LINES && !file.endsWith('.gen.ts')) faults.push(`${file} has ${lines} lines: ${MAX_LINES} at most`);
  }
}

const sizes = new Map<string, number>();
for (const file of imports.keys()) sizes.set(dirname(file), (sizes.get(dirname(file)) ?? 0) + 1);
for (const [room, files] of sizes) {
  if (!layers.has(room)) faults.push(`${room} has no place in the list of scripts/check-rooms.ts`);
  if (files > MAX_FILES) faults.push(`${room} has ${files} files: ${MAX_FILES} at most`);
}
for (const room of ROOMS)
  if (!sizes.has(room)) faults.push(`${room} is in the list of scripts/check-rooms.ts, and empty`);

const level = (file: string) => layers.get(dirname(file)) ?? -1;
for (const [file, targets] of imports) {
  for (const target of targets) {
    if (!imports.has(target)) faults.push(`${file} imports ${target}, which is outside of src/ and agent/`);
    else if (level(target) > level(file)) faults.push(`${file} imports ${target}, which is above it`);
  }
}

/** Files that are completely visited, and the path from the start of the walk to the current file. */
const visited = new Set<string>();
const path: string[] = [];
function walk(file: string): void {
  const at = path.indexOf(file);
  if (at >= 0) faults.push(`${[...path.slice(at), file].join(' → ')} is a circle`);
  if (at >= 0 || visited.has(file)) return;
  path.push(file);
  for (const target of imports.get(file) ?? []) walk(target);
  path.pop();
  visited.add(file);
}
for (const file of imports.keys()) walk(file);

for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exitCode = 1;
