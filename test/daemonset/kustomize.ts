/**
 * As much of kustomize 2.0.3 as daemonset/ uses, so that its manifests are tested where no kubectl is. Where one is, the test
 * compares the two.
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';

export interface Obj {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  // biome-ignore lint/suspicious/noExplicitAny: manifests of many kinds; each test says which
  [field: string]: any;
}
type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Op = { op: 'add'; path: string; value: Json };

interface Kustomization {
  bases?: string[];
  resources?: string[];
  patchesJson6902?: { target: { group?: string; version: string; kind: string; name: string }; path: string }[];
  patchesStrategicMerge?: string[];
  namespace?: string;
  generatorOptions?: { disableNameSuffixHash: true; labels: Record<string, string> };
  configMapGenerator?: { name: string; files: string[] }[];
  images?: { name: string; newName: string; newTag: string }[];
}
/** What is not in this list would be passed over here; so it is refused. */
const FIELDS = new Set([
  'apiVersion',
  'kind',
  'bases',
  'resources',
  'patchesJson6902',
  'patchesStrategicMerge',
  'images',
  'namespace',
  'generatorOptions',
  'configMapGenerator',
]);

export function documents(file: string): Obj[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).map((doc) => {
    if (doc.errors[0]) throw new Error(`${file}: ${doc.errors[0].message}`);
    return doc.toJS() as Obj;
  });
}

/** @throws Error where a file, a target or the place of a patch is missing */
export function build(dir: string): Obj[] {
  const k = parse(readFileSync(join(dir, 'kustomization.yaml'), 'utf8')) as Kustomization;
  const unknown = Object.keys(k).find((field) => !FIELDS.has(field));
  if (unknown !== undefined) throw new Error(`${dir}: ${unknown} is not known to kustomize 2.0.3, or not to this test`);
  const inside = (path: string) => {
    // Both versions refuse files of another directory.
    if (path.startsWith('..')) throw new Error(`${dir}: ${path} is outside of it`);
    return join(dir, path);
  };
  const objects = [
    ...(k.bases ?? []).flatMap((base) => build(join(dir, base))),
    ...(k.resources ?? []).flatMap((file) => documents(inside(file))),
    ...(k.configMapGenerator ?? []).map(({ name, files }) => configMap(k, name, files.map(inside))),
  ];
  if (k.namespace !== undefined) for (const o of objects) o.metadata.namespace = k.namespace;
  const find = (kind: string, name: string): Obj => {
    const found = objects.find((o) => o.kind === kind && o.metadata.name === name);
    if (!found) throw new Error(`${dir}: a patch is for ${kind} ${name}, which is not there`);
    return found;
  };
  for (const file of k.patchesStrategicMerge ?? []) {
    for (const patch of documents(inside(file))) merge(find(patch.kind, patch.metadata.name), patch);
  }
  for (const { target, path } of k.patchesJson6902 ?? []) {
    for (const op of parse(readFileSync(inside(path), 'utf8')) as Op[]) add(find(target.kind, target.name), op);
  }
  for (const { name, newName, newTag } of k.images ?? []) {
    for (const c of objects.flatMap(containers)) if (c.image === name) c.image = `${newName}:${newTag}`;
  }
  return objects;
}

/** Without a hash in its name: something else would have to follow it. */
function configMap({ generatorOptions }: Kustomization, name: string, files: string[]): Obj {
  if (!generatorOptions?.disableNameSuffixHash)
    throw new Error(`${name}: a hash in the name is not known to this test`);
  const data = Object.fromEntries(files.map((file) => [basename(file), readFileSync(file, 'utf8')]));
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels: generatorOptions.labels }, data };
}

/** The containers of a workload, those of its start first. */
export function containers(o: Obj): Obj[string][] {
  const pod = o.spec?.template?.spec;
  return [...(pod?.initContainers ?? []), ...(pod?.containers ?? [])];
}

type Node = Record<string, Json>;
const isNode = (v: Json | undefined): v is Node => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Lists of named things are merged by their names, others replaced. */
function merge(into: Node, patch: Node): void {
  for (const [key, value] of Object.entries(patch)) {
    const old = into[key];
    if (isNode(old) && isNode(value)) merge(old, value);
    else if (Array.isArray(old) && Array.isArray(value) && value.every((v) => isNode(v) && 'name' in v)) {
      for (const item of value as Node[]) {
        const same = old.find((o) => isNode(o) && o.name === item.name);
        if (isNode(same)) merge(same, item);
        else old.push(item);
      }
    } else into[key] = value;
  }
}

function add(object: Obj, { op, path, value }: Op): void {
  const steps = path.split('/').slice(1);
  const last = steps.pop() as string;
  let at: Json | undefined = object as Json;
  for (const step of steps) at = Array.isArray(at) ? at[Number(step)] : isNode(at) ? at[step] : undefined;
  if (op !== 'add' || at === undefined) throw new Error(`${op} ${path}: there is no such place`);
  if (Array.isArray(at) && last === '-') at.push(value);
  else if (isNode(at) && !(last in at)) at[last] = value;
  else throw new Error(`${path}: something is there already`);
}
