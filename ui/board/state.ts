/** What of the board is in the address, and which card the keys are on. */
import { computed, signal } from '@preact/signals';
import { type BoardFilter, columnsOf, SHOWS, SORTS, type Show, type Sort, type Spot } from '../../src/ui/wire/board.js';
import { namespaces, param, set } from '../state/url.js';
import { activity, policies } from './data.js';

const LONGEST_TEXT = 200;

export const filter = computed<BoardFilter>(() => ({
  text: (param('q') ?? '').slice(0, LONGEST_TEXT).trim(),
  dialect: param('dialect') ?? '',
  show: (param('show') ?? '').split(',').flatMap((one) => SHOWS.find((s) => s === one) ?? []),
  namespaces: namespaces.value,
}));
export const sort = computed<Sort>(() => SORTS.find((s) => s === param('sort')) ?? 'judged');
/** The policy whose rules are open; empty: none. */
export const opened = computed(() => param('policy') ?? '');
/** The policy that is edited, or `new`; empty: none. */
export const edited = computed(() => param('edit') ?? '');

/** The card that keys are about; undefined: none yet. */
export const spot = signal<Spot | undefined>(undefined);
/** Another number: the card of `spot` is to have the focus, since a key led there. */
export const focusTick = signal(0);

export const columns = computed(() =>
  policies.value ? columnsOf(policies.value, activity.value, filter.value, sort.value) : [],
);

export function toggleShow(one: Show): void {
  const { show } = filter.value;
  const next = show.includes(one) ? show.filter((s) => s !== one) : [...show, one];
  set({ show: next.length > 0 ? next.join(',') : undefined }, true);
}

export function dropFilters(): void {
  set({ q: undefined, dialect: undefined, show: undefined, ns: [] }, true);
}

export function open(id: string, replace = false): void {
  set({ policy: id === '' ? undefined : id }, replace);
}

/** Opens the editor. @param id of a policy, or `new` */
export function edit(id: string): void {
  set({ edit: id, policy: undefined });
}
