/** Loads manifests as a World, without an agent, for tools that read policies from files. */
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import type { Hearing } from '../dialects/hearing.js';
import { DialectRegistry } from '../dialects/index.js';
import { AgentError, type Problem } from '../errors.js';
import { buildSnapshot } from '../identity/builder.js';
import type { ParsedObject } from '../identity/fields.js';
import type { Pod, Service, Snapshot } from '../identity/snapshot.js';
import { walk } from '../identity/files/walk.js';
import { parseManifest } from '../identity/files/yaml.js';
import { NO_TUNNELS } from '../net/tunnels.js';
import type { World } from './packets.js';

export interface LoadedWorld extends World {
  /** Problems of files, objects and policies, as `egressctl validate` reports them. */
  readonly problems: readonly Problem[];
}

/**
 * Loads directories, searched like the agent does, and single files.
 * @param hearing what an agent's options say; default: what the policies say themselves
 * @throws AgentError MANIFEST if one of them cannot be read
 */
export function loadWorld(paths: readonly string[], hearing: Partial<Hearing> = {}): LoadedWorld {
  const objects: ParsedObject[] = [];
  const problems: Problem[] = [];
  const taken = new Set<string>();
  const take = (file: string) => {
    if (taken.has(file)) return;
    taken.add(file);
    for (const document of parseManifest(file, readText(file))) {
      objects.push(...document.objects);
      problems.push(...document.problems);
    }
  };
  for (const path of paths) {
    if (!isDirectory(path)) {
      take(path);
      continue;
    }
    for (const found of walk(path)) {
      if (found.type === 'file') take(regular(found.path));
      else if (found.type === 'problem')
        throw new AgentError('MANIFEST', found.message, { where: { file: found.path } });
    }
  }
  const snapshot = buildSnapshot(objects, { nodeName: '', ownNodeIps: [], problems });
  const { ir, problems: ofPolicies } = new DialectRegistry(hearing).toIr(snapshot);
  return { ir, snapshot, problems: [...snapshot.problems, ...ofPolicies] };
}

/** Refuses pipes in a directory, since reading one would block. A pipe that is named explicitly is read. */
function regular(file: string): string {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat && !stat.isFile()) throw new AgentError('MANIFEST', `${file} is not a regular file`, { where: { file } });
  return file;
}

/** @throws AgentError MANIFEST */
export function readText(file: string): string {
  let fd: number | undefined;
  try {
    fd = openSync(file, 'r');
    return readFileSync(fd, 'utf8');
  } catch (e) {
    throw new AgentError('MANIFEST', `${file} cannot be read: ${(e as Error).message}`, { where: { file } });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Whether the path is a directory; false if it cannot be examined. */
export function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false; // reading it as a file will report the reason
  }
}

/**
 * Completes two worlds with the objects of each other, so that two sets of policies are compared on the same pods. If
 * both have an object with the same name, each keeps its own. An address that is already in use is not given to a
 * second object. Encapsulation is left to the policies.
 */
export function completed(a: World, b: World): [World, World] {
  return [withMissing(a, b.snapshot), withMissing(b, a.snapshot)];
}

function withMissing({ ir, snapshot }: World, other: Snapshot): World {
  const podIps = new Set([...snapshot.pods.values()].flatMap((pod) => pod.ips));
  const vips = new Set([...snapshot.services.values()].flatMap((service) => service.vips));
  const free = <T>(list: readonly T[], taken: ReadonlySet<T>) => list.filter((x) => !taken.has(x));
  const pods = missing(snapshot.pods, other.pods, (pod): Pod => ({ ...pod, ips: free(pod.ips, podIps) }));
  const services = missing(
    snapshot.services,
    other.services,
    (service): Service => ({ ...service, vips: free(service.vips, vips) }),
  );
  const namespaces = missing(snapshot.namespaces, other.namespaces, (namespace) => namespace);
  const nodes = missing(snapshot.nodes, other.nodes, (node) => node);
  return { ir, snapshot: { ...snapshot, pods, services, namespaces, nodes, tunnels: NO_TUNNELS } };
}

function missing<T>(own: ReadonlyMap<string, T>, other: ReadonlyMap<string, T>, adopt: (value: T) => T) {
  const out = new Map(own);
  for (const [key, value] of other) if (!out.has(key)) out.set(key, adopt(value));
  return out;
}
