/** Chooses namespaces, of those that the cluster and the edges have. */
import { useEffect, useState } from 'preact/hooks';
import type { NamespaceInfo } from '../../src/ui/wire/namespaces.js';
import { Popup } from '../parts/overlay.js';
import { count } from '../parts/words.js';
import { ask, session } from '../state/api.js';
import { edges } from '../state/store.js';
import { namespaces, set } from '../state/url.js';

export function NamespacePicker() {
  const chosen = namespaces.value;
  const [first] = chosen;
  const text = first === undefined ? 'All namespaces' : chosen.length === 1 ? first : `${first} +${chosen.length - 1}`;
  const limited = session.value?.namespaces;
  const visible = limited && first === undefined ? 'Your namespaces' : text;
  return (
    <Popup
      class="picker"
      label={`namespaces: ${visible}`}
      title={limited ? 'all that you may see' : 'namespaces'}
      button={
        <>
          <span class={first === undefined ? 'dim' : ''}>{visible}</span>
          <svg viewBox="0 0 10 6" width="10" height="6" aria-hidden="true">
            <path d="M1 1l4 4 4-4" fill="none" stroke="currentColor" stroke-width="1.5" />
          </svg>
        </>
      }
    >
      {() => <List />}
    </Popup>
  );
}

/** Namespaces that are listed at once: a filter finds the others. */
const LISTED = 200;

function List() {
  const [asked, take] = useState<readonly NamespaceInfo[]>([]);
  const [filter, narrow] = useState('');
  useEffect(() => {
    const leaving = new AbortController();
    ask<{ namespaces: readonly NamespaceInfo[] }>('namespaces', {}, leaving.signal).then(
      (answer) => take(answer.namespaces),
      // Those of the edges are listed still.
      () => {},
    );
    return () => leaving.abort();
  }, []);
  const chosen = namespaces.value;
  const all = known(asked, chosen);
  const matching = all.filter(({ name }) => name.includes(filter.trim().toLowerCase()));
  const toggle = (name: string, isOn: boolean) =>
    set({ ns: isOn ? [...chosen, name].sort() : chosen.filter((one) => one !== name) });
  return (
    <div class="namespace-list">
      <div class="panel-head">
        <input
          type="search"
          placeholder="find a namespace"
          aria-label="find a namespace"
          value={filter}
          onInput={(event) => narrow(event.currentTarget.value)}
          onKeyDown={(event) => {
            const [only] = matching;
            if (event.key === 'Enter' && only && filter !== '') toggle(only.name, !chosen.includes(only.name));
          }}
        />
        <button type="button" class="quiet" disabled={chosen.length === 0} onClick={() => set({ ns: [] })}>
          Show all
        </button>
      </div>
      <ul>
        {matching.slice(0, LISTED).map(({ name, pods, policies }) => (
          <li key={name}>
            <label>
              <input
                type="checkbox"
                checked={chosen.includes(name)}
                onChange={(event) => toggle(name, event.currentTarget.checked)}
              />
              <span class="name">{name}</span>
              <span class="dim">
                {pods > 0 && `${count(pods)} ${pods === 1 ? 'pod' : 'pods'}`}
                {pods > 0 && policies > 0 && ' · '}
                {policies > 0 && `${count(policies)} ${policies === 1 ? 'policy' : 'policies'}`}
              </span>
            </label>
          </li>
        ))}
      </ul>
      {matching.length === 0 && <p class="dim none">no namespace has “{filter.slice(0, 63)}” in its name</p>}
      {matching.length > LISTED && <p class="dim none">and {count(matching.length - LISTED)} more</p>}
    </div>
  );
}

/** Those that were asked for, those of edges, and the chosen ones; all in one order. */
function known(asked: readonly NamespaceInfo[], chosen: readonly string[]): NamespaceInfo[] {
  const out = new Map(asked.map((one) => [one.name, one]));
  const add = (name: string) => {
    if (name !== '' && !out.has(name)) out.set(name, { name, pods: 0, policies: 0 });
  };
  for (const { info } of edges.values()) {
    add(info.source.namespace);
    add(info.destination.namespace);
  }
  for (const name of chosen) add(name);
  const limited = session.value?.namespaces;
  return [...out.values()]
    .filter(({ name }) => limited === undefined || limited.includes(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
