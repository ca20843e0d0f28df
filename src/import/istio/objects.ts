/** Istio's objects as they stand in manifests. */
import { AgentError } from '../../errors.js';
import { isRecord, type ParsedObject } from '../../identity/fields.js';
import { parseManifest } from '../../identity/files/yaml.js';
import { readList } from '../base/limits.js';
import type { Place } from '../base/model.js';

export type Mode = 'ALLOW_ANY' | 'REGISTRY_ONLY';

export interface IstioObject {
  readonly namespace: string;
  readonly name: string;
  readonly spec: Readonly<Record<string, unknown>>;
  /** The place of one of its fields. */
  readonly at: (field: string) => Place;
}

export interface IstioObjects {
  readonly entries: readonly IstioObject[];
  readonly sidecars: readonly IstioObject[];
  /** The mesh's outboundTrafficPolicy; undefined: no file tells. */
  readonly mode: { readonly mode: Mode; readonly where: Place } | undefined;
  /** The namespace of objects that count for the whole mesh. */
  readonly root: string;
}

/** @throws AgentError */
export function readObjects(files: readonly string[]): IstioObjects {
  const entries: IstioObject[] = [];
  const sidecars: IstioObject[] = [];
  let mode: IstioObjects['mode'];
  let root = 'istio-system';
  for (const file of files) {
    const documents = parseManifest(file, readList(file));
    const [problem] = documents.flatMap((d) => d.problems);
    if (problem) {
      const line = problem.where.line;
      throw new AgentError('MANIFEST', `${file}${line ? `:${line}` : ''} ${problem.message}`, { where: problem.where });
    }
    let found = false;
    for (const parsed of documents.flatMap((d) => d.objects)) {
      const kind = String(parsed.object.kind);
      const ofIstio = String(parsed.object.apiVersion).startsWith('networking.istio.io/');
      const config = meshConfig(parsed, file);
      if (ofIstio && kind === 'ServiceEntry') entries.push(objectOf(parsed, file, kind));
      else if (ofIstio && kind === 'Sidecar') sidecars.push(objectOf(parsed, file, kind));
      else if (config) {
        mode = modeOf(config, { file, ...lineOf(parsed) }) ?? mode;
        if (typeof config.rootNamespace === 'string') root = config.rootNamespace;
      } else continue;
      found = true;
    }
    if (!found)
      throw new AgentError('MANIFEST', `${file} has no ServiceEntry, no Sidecar and no mesh configuration`, {
        where: { file },
      });
  }
  return { entries, sidecars, mode, root };
}

function lineOf({ where }: ParsedObject): { line?: number } {
  return where.line === undefined ? {} : { line: where.line };
}

function objectOf(parsed: ParsedObject, file: string, kind: string): IstioObject {
  const { metadata, spec } = parsed.object;
  const own = isRecord(metadata) ? metadata : {};
  const namespace = typeof own.namespace === 'string' ? own.namespace : 'default';
  const name = typeof own.name === 'string' ? own.name : '?';
  const at = (field: string): Place => ({ file, ...lineOf(parsed), field: `${kind} ${namespace}/${name}: ${field}` });
  return { namespace, name, spec: isRecord(spec) ? spec : {}, at };
}

/** The mesh's configuration: in its ConfigMap, in an IstioOperator, or by itself. */
function meshConfig({ object }: ParsedObject, file: string): Readonly<Record<string, unknown>> | undefined {
  if (object.kind === 'ConfigMap') {
    const text = isRecord(object.data) ? object.data.mesh : undefined;
    if (typeof text !== 'string') return undefined;
    const [inner] = parseManifest(file, text).flatMap((d) => d.objects);
    return inner?.object;
  }
  const { spec } = object;
  if (object.kind === 'IstioOperator' || object.kind === 'Istio') {
    const values = isRecord(spec) && isRecord(spec.values) ? spec.values.meshConfig : undefined;
    const config = isRecord(spec) ? (spec.meshConfig ?? values) : undefined;
    return isRecord(config) ? config : {};
  }
  return object.kind === undefined && isRecord(object.outboundTrafficPolicy) ? object : undefined;
}

/** @throws AgentError if the mode is unknown */
export function modeOf(
  config: Readonly<Record<string, unknown>>,
  where: Place,
): { mode: Mode; where: Place } | undefined {
  const policy = config.outboundTrafficPolicy;
  if (policy === undefined || policy === null) return undefined;
  const mode = isRecord(policy) ? (policy.mode ?? 'ALLOW_ANY') : policy;
  if (mode === 'ALLOW_ANY' || mode === 'REGISTRY_ONLY') return { mode, where };
  throw new AgentError('MANIFEST', `${where.file}:${where.line ?? 1} outboundTrafficPolicy has no known mode`, {
    where: { file: where.file },
    hint: 'REGISTRY_ONLY or ALLOW_ANY',
  });
}

export function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map((one) => (typeof one === 'string' ? one : '?')) : [];
}

export function recordsOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map((one) => (isRecord(one) ? one : {})) : [];
}
