/** Widths of columns: each gets its share by the longest text that it has shown, so that nothing jumps back and forth. */
import { computed, effect, signal } from '@preact/signals';
import { chips, namespaces } from '../state/url.js';
import { columns, isSums } from './columns.js';
import type { Line } from './lines.js';

/** Characters of a column that counts: longer texts are cut. */
const LONGEST = 44;
/** Characters that columns keep if there is little room; others keep 9. */
const LEAST: Readonly<Record<string, number>> = { from: 20, to: 30, rule: 14 };
/** Pixels of one character, about. */
const CHARACTER = 7.8;

const lengths: Readonly<Record<string, (line: Line) => number>> = {
  from: ({ from }) => from.before.length + from.text.length,
  to: ({ to, port }) => 3 + to.before.length + to.text.length + port.length,
  name: ({ name }) => name.length,
  rule: ({ rule, reason }) => (rule ? rule.text.length : reason.length),
  staged: ({ staged }) => (staged === '' ? 0 : staged.length + 2),
  node: ({ node }) => node.length,
};

let widest: Record<string, number> = {};
const version = signal(0);

/** The tracks of the grid. */
export const tracks = computed(() => {
  void version.value;
  return columns.value
    .map(({ id, width, title }) => {
      if (width !== undefined) return `${width}px`;
      const length = Math.max(title.length, widest[id] ?? 0);
      return `minmax(${Math.round(Math.min(length, LEAST[id] ?? 9) * CHARACTER)}px, ${length}fr)`;
    })
    .join(' ');
});

/** Takes what is shown into account. */
export function measure(lines: readonly Line[]): void {
  let isWider = false;
  for (const line of lines) {
    for (const id of Object.keys(lengths)) {
      const length = Math.min(LONGEST, lengths[id]?.(line) ?? 0);
      if (length <= (widest[id] ?? 0)) continue;
      widest[id] = length;
      isWider = true;
    }
  }
  if (isWider) version.value++;
}

/** Begins anew when something else is shown. @returns what ends it */
export function followFit(): () => void {
  return effect(() => {
    void [isSums.value, chips.value, namespaces.value];
    widest = {};
  });
}
