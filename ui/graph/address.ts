/** What the address says about this screen: level, selection, what is hidden, graph or table. */
import { computed } from '@preact/signals';
import { type Level, levelText, parseLevel } from '../../src/ui/graph/levels.js';
import type { Hidden, Rules } from '../../src/ui/graph/model.js';
import { MOST_NODES } from '../../src/ui/graph/places.js';
import { shownVerdict } from '../parts/verdict.js';
import { edgeFilter } from '../state/match.js';
import { chips, href, namespaces, param, set } from '../state/url.js';

/** What hides by itself until it is asked for. */
export const QUIET = { dns: 'DNS', system: 'kube-system' } as const;
export type Quiet = keyof typeof QUIET;
/** Nodes that can be asked for. */
const MOST_OF_ALL = 1500;

export const levelParam = computed(() => levelText(parseLevel(param('at'))));
export const level = computed<Level>(() => parseLevel(levelParam.value));
/** Key of a node or line; empty: nothing. */
export const selected = computed(() => param('sel') ?? '');
export const isTable = computed(() => param('view') === 'table');
export const mostNodes = computed(() => {
  const wanted = Number(param('most'));
  return Number.isInteger(wanted) ? Math.min(MOST_OF_ALL, Math.max(MOST_NODES, wanted)) : MOST_NODES;
});
const shownParam = computed(() => param('show') ?? '');
/** What of QUIET is shown: it was asked for, or a filter is about it. */
export const unhidden = computed<ReadonlySet<Quiet>>(() => {
  const asked = shownParam.value.split(',');
  const isAbout = (keys: RegExp, value: string) =>
    chips.value.some((chip) => !chip.not && keys.test(chip.key) && chip.value === value);
  const at = level.value;
  const ofSystem =
    asked.includes('system') ||
    namespaces.value.includes('kube-system') ||
    (at.kind !== 'cluster' && at.namespace === 'kube-system') ||
    isAbout(/namespace$/, 'kube-system');
  const ofDns = asked.includes('dns') || isAbout(/port$/, '53');
  return new Set<Quiet>([...(ofDns ? (['dns'] as const) : []), ...(ofSystem ? (['system'] as const) : [])]);
});

/** Changes whenever other edges are drawn. */
export const rulesText = computed(() => JSON.stringify([levelParam.value, chips.value, [...unhidden.value]]));

export function rules(): Rules {
  const matches = edgeFilter(chips.value);
  const open = unhidden.value;
  return {
    level: level.value,
    seen: (info) => shownVerdict(info.verdict, info.auditVerdict, info.reason),
    hide: (info): Hidden | undefined => {
      if (!matches(info)) return 'filter';
      // The resolver is in kube-system, too: who asks for DNS gets it.
      if (info.port === 53 && (info.protocol === 6 || info.protocol === 17)) return open.has('dns') ? undefined : 'dns';
      const isSystem = info.source.namespace === 'kube-system' || info.destination.namespace === 'kube-system';
      return isSystem && !open.has('system') ? 'system' : undefined;
    },
  };
}

export function select(key: string): void {
  if (key !== selected.peek()) set({ sel: key === '' ? undefined : key }, true);
}

export function goTo(next: Level): void {
  const text = levelText(next);
  set({ at: text === '' ? undefined : text, sel: undefined, most: undefined });
}

/** The address of a level. */
export function levelHref(next: Level): string {
  const text = levelText(next);
  return href('graph', { at: text === '' ? undefined : text, sel: undefined, most: undefined });
}

export function showQuiet(which: Quiet, isShown: boolean): void {
  const now = new Set(
    shownParam
      .peek()
      .split(',')
      .filter((s) => s !== ''),
  );
  if (isShown) now.add(which);
  else now.delete(which);
  set({ show: now.size === 0 ? undefined : [...now].sort().join(',') });
}

export function showMore(): void {
  set({ most: String(Math.min(MOST_OF_ALL, mostNodes.peek() + MOST_NODES)) });
}
