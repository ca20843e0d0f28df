/** What of the recommendations is in the address. */
import { computed, signal } from '@preact/signals';
import { LANGUAGE_NAMES, MIN_DAYS, MOST_CHOICES } from '../../src/ui/wire/recommend.js';
import type { Language } from '../../src/recommend/base/names.js';
import { go, href, param, params, set } from '../state/url.js';

/** `namespace/name`; empty: the list. */
export const workload = computed(() => param('workload') ?? '');
export const kind = computed(() => param('kind') ?? '');
export const language = computed<Language>(() => {
  const to = param('to');
  return to !== null && Object.hasOwn(LANGUAGE_NAMES, to) ? (to as Language) : 'networkpolicy';
});
export const minDays = computed(() => {
  const days = Number(param('days') ?? MIN_DAYS.usual);
  return Number.isInteger(days) && days >= MIN_DAYS.least && days <= MIN_DAYS.most ? days : MIN_DAYS.usual;
});
/** Workloads that have policies are listed, too. */
export const showsAll = computed(() => param('show') === 'all');
export const without = computed(() => params('without').slice(0, MOST_CHOICES));
export const also = computed(() => params('also').slice(0, MOST_CHOICES));

/** The evidence that the pointer or the focus is on: its lines in the policy are marked. Empty: none. */
export const marked = signal('');

/** How a piece of evidence is named in choices, and how the comments of a policy begin. */
export function nameOf({ to, port }: { to: string; port: string }): string {
  return `${to}: ${port}`;
}

/** The address of one workload's recommendation, with the language as it is chosen. */
export function detailHref(one: { workload: string; kind: string }): string {
  return href('recommend', { workload: one.workload, kind: one.kind, without: undefined, also: undefined });
}

export function openList(): void {
  go(href('recommend', { workload: undefined, kind: undefined, without: undefined, also: undefined }));
}

/** Whether evidence is wanted is a choice, and not choosing is none. */
export function choose(name: string, isWanted: boolean, isRecommended: boolean): void {
  const [no, yes] = [new Set(without.value), new Set(also.value)];
  no.delete(name);
  yes.delete(name);
  if (isWanted && !isRecommended) yes.add(name);
  if (!isWanted && isRecommended) no.add(name);
  set({ without: [...no], also: [...yes] }, true);
}

export function dropChoices(): void {
  set({ without: undefined, also: undefined }, true);
}
