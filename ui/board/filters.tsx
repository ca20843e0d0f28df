/** What of the board is shown, and in which order. */
import { useEffect, useRef } from 'preact/hooks';
import { SHOWS, type Show, SORTS, type Sort } from '../../src/ui/wire/board.js';
import { count } from '../parts/words.js';
import { set } from '../state/url.js';
import { policies } from './data.js';
import { columns, edit, filter, sort, toggleShow } from './state.js';

const SHOW_WORDS: Readonly<Record<Show, string>> = {
  staged: '◐ staged',
  unused: '– unused',
  denied: '✕ denying',
  refused: '! refused',
};
const SHOW_TITLES: Readonly<Record<Show, string>> = {
  staged: 'policies that are counted, and not enforced',
  unused: 'policies without traffic in the window',
  denied: 'policies that denied something in the window, or would have',
  refused: 'policies with errors',
};
const SORT_WORDS: Readonly<Record<Sort, string>> = {
  judged: 'as judged',
  hits: 'most hits first',
  last: 'last hit first',
  name: 'by name',
};
export const DIALECT_WORDS: Readonly<Record<string, string>> = {
  networkpolicy: 'NetworkPolicy',
  clusternetworkpolicy: 'ClusterNetworkPolicy',
  calico: 'Calico',
  cilium: 'Cilium',
  fqdn: 'FQDNNetworkPolicy',
};

/** Milliseconds after the last key, before the board is filtered. */
const PAUSE_MS = 120;

export function Filters() {
  const timer = useRef(0);
  const input = useRef<HTMLInputElement>(null);
  const known = policies.value?.policies ?? [];
  const dialects = Object.keys(DIALECT_WORDS).filter((d) => known.some((p) => p.dialect === d));
  const { text, dialect, show } = filter.value;
  // The address may change without the field: another link, or the filters dropped.
  useEffect(() => {
    if (input.current && document.activeElement !== input.current) input.current.value = text;
  }, [text]);
  const cards = columns.value.flatMap(({ items }) => items.flatMap((i) => (i.type === 'card' ? [i.policy.id] : [])));
  const shown = new Set(cards).size;
  const hidden = known.length - shown;
  return (
    <div class="toolbar board-filters">
      <input
        id="policy-text"
        type="search"
        placeholder="find a policy, kind or problem"
        aria-label="text in the policies"
        title="find policies (f)"
        ref={input}
        defaultValue={text}
        onInput={({ currentTarget: { value } }) => {
          clearTimeout(timer.current);
          timer.current = setTimeout(() => set({ q: value.trim() || undefined }, true), PAUSE_MS) as unknown as number;
        }}
        onKeyDown={(event) => {
          if (event.key !== 'Escape') return;
          event.stopPropagation();
          event.currentTarget.blur();
        }}
      />
      <label>
        <span class="sr-only">dialect</span>
        <select value={dialect} onChange={(e) => set({ dialect: e.currentTarget.value || undefined }, true)}>
          <option value="">all dialects</option>
          {dialects.map((d) => (
            <option key={d} value={d}>
              {DIALECT_WORDS[d]}
            </option>
          ))}
        </select>
      </label>
      <fieldset class="shows">
        <legend class="sr-only">show only</legend>
        {SHOWS.map((one) => (
          <button
            type="button"
            key={one}
            class={`toggle ${one}`}
            aria-pressed={show.includes(one)}
            title={SHOW_TITLES[one]}
            onClick={() => toggleShow(one)}
          >
            {SHOW_WORDS[one]}
          </button>
        ))}
      </fieldset>
      <label>
        <span class="sr-only">order</span>
        <select
          id="policy-sort"
          value={sort.value}
          onChange={(e) => set({ sort: e.currentTarget.value === 'judged' ? undefined : e.currentTarget.value }, true)}
        >
          {SORTS.map((s) => (
            <option key={s} value={s}>
              {SORT_WORDS[s]}
            </option>
          ))}
        </select>
      </label>
      <span class="dim" role="status">
        {count(shown)}
        {hidden > 0 && ` of ${count(shown + hidden)}`} {shown + hidden === 1 ? 'policy' : 'policies'}
      </span>
      <span class="grow" />
      <button type="button" class="primary" onClick={() => edit('new')} title="write a new policy (n)">
        New policy
      </button>
    </div>
  );
}
