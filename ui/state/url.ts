/**
 * All that the page shows is in its address: `/graph?w=live&ns=shop&f=!port:53`. A link shows somebody else the same, and
 * the browser's back button goes back.
 */
import { computed, signal } from '@preact/signals';
import { type Chip, chipText, parseChip } from '../../src/ui/wire/chips.js';
import { WINDOWS, type Window } from '../../src/ui/wire/messages.js';

export const SCREENS = ['graph', 'flows', 'policies', 'recommend', 'status'] as const;
export type Screen = (typeof SCREENS)[number];

interface Place {
  readonly screen: Screen;
  readonly params: URLSearchParams;
}

function read(): Place {
  const name = location.pathname.slice(1);
  const screen = SCREENS.find((s) => s === name) ?? 'graph';
  return { screen, params: new URLSearchParams(location.search) };
}

const place = signal<Place>(read());
let current = location.pathname + location.search;
addEventListener('popstate', () => {
  const to = location.pathname + location.search;
  if (holds?.(to, current, () => go(to))) {
    history.pushState(null, '', current);
    return;
  }
  current = to;
  place.value = read();
});

/** Decides whether the page stays at an address; calls `proceed` if the user leaves nevertheless. */
type Hold = (to: string, from: string, proceed: () => void) => boolean;
let holds: Hold | undefined;

/** Something is not saved: before the address leads elsewhere, it is asked. @returns ends that */
export function holdBefore(hold: Hold): () => void {
  holds = hold;
  return () => {
    if (holds === hold) holds = undefined;
  };
}

export const screen = computed(() => place.value.screen);
export const window_ = computed<Window>(() => {
  const value = place.value.params.get('w');
  return WINDOWS.find((w) => w === value) ?? 'live';
});
export const namespaces = computed<readonly string[]>(() =>
  place.value.params.getAll('ns').filter((ns) => /^[a-z0-9-]{1,63}$/.test(ns)),
);
export const chips = computed<readonly Chip[]>(() =>
  place.value.params.getAll('f').flatMap((text) => parseChip(text) ?? []),
);

/** A parameter of a screen's own; null: it is not there. */
export function param(name: string): string | null {
  return place.value.params.get(name);
}

/** All values of a parameter of a screen's own. */
export function params(name: string): readonly string[] {
  return place.value.params.getAll(name);
}

/** The address with some parameters changed. undefined, or an empty list: left out. */
export function href(
  to: Screen,
  changes: Readonly<Record<string, string | readonly string[] | undefined>> = {},
): string {
  const params = new URLSearchParams(place.value.params);
  // What is open on a screen stays there.
  if (to !== place.value.screen) for (const name of [...params.keys()]) if (!COMMON.has(name)) params.delete(name);
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    for (const one of value === undefined ? [] : typeof value === 'string' ? [value] : value) params.append(name, one);
  }
  const query = params.toString();
  return `/${to}${query === '' ? '' : `?${query}`}`;
}

/** The parameters that all screens have. */
const COMMON: ReadonlySet<string> = new Set(['w', 'ns', 'f', 'theme']);

/** Goes to an address of href(). @param replace no new step of the back button */
export function go(to: string, replace = false): void {
  if (holds?.(to, current, () => go(to, replace))) return;
  current = to;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  place.value = read();
}

/** Changes parameters of this screen. */
export function set(changes: Readonly<Record<string, string | readonly string[] | undefined>>, replace = false): void {
  go(href(place.value.screen, changes), replace);
}

export function setChips(next: readonly Chip[]): void {
  set({ f: next.map(chipText) });
}

export function addChip(chip: Chip): void {
  const text = chipText(chip);
  if (chips.value.some((c) => chipText(c) === text)) return;
  setChips([...chips.value, chip]);
}

export function dropChip(chip: Chip): void {
  const text = chipText(chip);
  setChips(chips.value.filter((c) => chipText(c) !== text));
}
