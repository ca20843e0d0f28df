/**
 * What the graph draws at which level: the whole cluster by namespace, a namespace by workload, a workload with all that
 * it meets. A pure module of the page, apart from it so that it can be tested without a browser.
 */
import type { Party } from '../wire/messages.js';

export type Level =
  | { readonly kind: 'cluster' }
  | { readonly kind: 'namespace'; readonly namespace: string }
  | { readonly kind: 'workload'; readonly namespace: string; readonly workloadKind: string; readonly name: string };

/**
 * Columns from left to right. 0: who opens connections; 1: the namespace or workload of the level, in the cluster who is
 * connected to; 2: whom the level's own connects to; 3: the platform; 4: outside of the cluster.
 */
export type Column = 0 | 1 | 2 | 3 | 4;
export const COLUMNS: readonly Column[] = [0, 1, 2, 3, 4];

/** One thing that is drawn. */
export interface Unit {
  readonly key: string;
  /** `nodes`: all of the cluster's nodes together. `rest`: all of a column that found no room. */
  readonly kind: 'namespace' | 'workload' | 'service' | 'node' | 'nodes' | 'name' | 'address' | 'other' | 'rest';
  readonly namespace: string;
  readonly workloadKind: string;
  readonly name: string;
}

/** `ns/shop`, `wl/shop/Deployment/web`: as the address has it. The cluster is the empty text. */
export function levelText(level: Level): string {
  if (level.kind === 'cluster') return '';
  if (level.kind === 'namespace') return `ns/${level.namespace}`;
  return `wl/${level.namespace}/${level.workloadKind}/${level.name}`;
}

/** Reads one. What is none is the cluster. */
export function parseLevel(text: string | null): Level {
  const [kind, namespace = '', workloadKind = '', ...rest] = (text ?? '').slice(0, 1000).split('/');
  const name = rest.join('/');
  if (namespace === '') return { kind: 'cluster' };
  if (kind === 'ns' && workloadKind === '') return { kind: 'namespace', namespace };
  if (kind === 'wl' && name !== '') return { kind: 'workload', namespace, workloadKind, name };
  return { kind: 'cluster' };
}

/** The level around one. @returns undefined: it is the cluster */
export function outOf(level: Level): Level | undefined {
  if (level.kind === 'cluster') return undefined;
  return level.kind === 'namespace' ? { kind: 'cluster' } : { kind: 'namespace', namespace: level.namespace };
}

/** The level inside of a unit. @param only the workload, if the namespace has one alone @returns undefined: none */
export function into(unit: Unit, only?: Unit): Level | undefined {
  if (unit.kind === 'namespace') return only ? into(only) : { kind: 'namespace', namespace: unit.namespace };
  if (unit.kind !== 'workload') return undefined;
  return { kind: 'workload', namespace: unit.namespace, workloadKind: unit.workloadKind, name: unit.name };
}

/** As what an end of an edge is drawn. */
export function unitOf(level: Level, party: Party): Unit {
  const { kind, namespace } = party;
  if (kind === 'workload' || kind === 'service') {
    const alone = level.kind === 'workload' || (level.kind === 'namespace' && level.namespace === namespace);
    if (!alone) return { key: `ns/${namespace}`, kind: 'namespace', namespace, workloadKind: '', name: namespace };
    return exactUnit(party);
  }
  if (kind === 'node' && level.kind !== 'workload')
    return { key: '@node', kind: 'nodes', namespace: '', workloadKind: '', name: '@node' };
  return exactUnit(party);
}

/** An end of an edge by itself. */
export function exactUnit({ kind, namespace, workloadKind, name }: Party): Unit {
  switch (kind) {
    case 'workload':
      return { key: `wl/${namespace}/${workloadKind}/${name}`, kind, namespace, workloadKind, name };
    case 'service':
      return { key: `svc/${namespace}/${name}`, kind, namespace, workloadKind: '', name };
    case 'other':
      return { key: 'other', kind, namespace: '', workloadKind: '', name: '' };
    default:
      return { key: `${kind}/${name}`, kind, namespace: '', workloadKind: '', name };
  }
}

/** What stands for all of a column that found no room. */
export function restUnit(column: Column): Unit {
  return { key: `rest/${column}`, kind: 'rest', namespace: '', workloadKind: '', name: '' };
}

/** Whether an edge belongs to a level. */
export function isOf(level: Level, source: Party, destination: Party): boolean {
  if (level.kind === 'cluster') return true;
  const isOwn = (p: Party) =>
    p.namespace === level.namespace &&
    (level.kind === 'namespace' ||
      (p.kind === 'workload' && p.name === level.name && p.workloadKind === level.workloadKind));
  return isOwn(source) || isOwn(destination);
}

/** Whether a unit is the level's own: in the namespace, or the workload. */
export function isOwnUnit(level: Level, unit: Unit): boolean {
  if (level.kind === 'cluster' || unit.namespace !== level.namespace || unit.kind === 'namespace') return false;
  return level.kind === 'namespace' || unit.key === levelText(level);
}

/** Namespaces that clusters run themselves with, by the names that distributions give them. */
export function isPlatform(namespace: string): boolean {
  return /^(kube|openshift)-|-system$/.test(namespace);
}

/** A unit's column, if it does not depend on who connects to whom. */
export function fixedColumn(level: Level, unit: Unit): Column | undefined {
  switch (unit.kind) {
    case 'name':
    case 'address':
    case 'other':
      return 4;
    case 'node':
    case 'nodes':
      return 3;
    default:
      if (isOwnUnit(level, unit)) return 1;
      return isPlatform(unit.namespace) ? 3 : undefined;
  }
}
