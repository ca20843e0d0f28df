/** The bar: namespaces, time window, chips, nodes, losses. */
import { CHIP_KEYS, chipText, parseChip } from '../../src/ui/wire/chips.js';
import { WINDOWS } from '../../src/ui/wire/messages.js';
import { count, shown } from '../parts/words.js';
import { edgesHead, nodes, troubles } from '../state/store.js';
import { streamError, streamState } from '../state/stream.js';
import { addChip, chips, dropChip, namespaces, set, window_ } from '../state/url.js';
import { appliesToEdges } from '../state/match.js';
import { session } from '../state/api.js';

export function Bar() {
  return (
    <header class="bar">
      <label>
        <span class="sr-only">time window</span>
        <select value={window_.value} onChange={(e) => set({ w: e.currentTarget.value })}>
          {WINDOWS.map((w) => (
            <option key={w} value={w}>
              {w}
            </option>
          ))}
        </select>
      </label>
      {namespaces.value.map((ns) => (
        <button
          type="button"
          class="chip"
          key={ns}
          onClick={() => set({ ns: namespaces.value.filter((n) => n !== ns) })}
          title="click to drop"
        >
          namespace {ns} <span aria-hidden="true">×</span>
        </button>
      ))}
      {chips.value.map((chip) => (
        <button
          type="button"
          class={`chip${appliesToEdges(chip) ? '' : ' flows-only'}`}
          key={chipText(chip)}
          onClick={() => dropChip(chip)}
          title={`${CHIP_KEYS[chip.key]}${appliesToEdges(chip) ? '' : ' (of flows only)'}; click to drop`}
        >
          {shown(chipText(chip), 60)} <span aria-hidden="true">×</span>
        </button>
      ))}
      <form
        class="query"
        onSubmit={(event) => {
          event.preventDefault();
          const input = event.currentTarget.elements.namedItem('query') as HTMLInputElement;
          const chip = parseChip(input.value);
          input.setCustomValidity(
            chip ? '' : 'a filter is a name and a value, such as to-port:443 or !namespace:kube-system',
          );
          if (!chip) {
            input.reportValidity();
            return;
          }
          addChip(chip);
          input.value = '';
        }}
      >
        <input
          name="query"
          id="query"
          list="chip-keys"
          placeholder="filter, e.g. to-port:443"
          aria-label="add a filter"
          autocomplete="off"
          onInput={(e) => e.currentTarget.setCustomValidity('')}
        />
        <datalist id="chip-keys">
          {Object.entries(CHIP_KEYS).map(([key, about]) => (
            <option key={key} value={`${key}:`}>
              {about}
            </option>
          ))}
        </datalist>
      </form>
      <span class="grow" />
      <State />
      <span class="source">{shown(session.value?.source ?? '', 60)}</span>
    </header>
  );
}

/** In words: nodes that answer, what is lost, what is interrupted. */
function State() {
  const all = nodes.value ?? [];
  const connected = all.filter((n) => n.connected).length;
  const lost = all.reduce((sum, n) => sum + n.lost, 0);
  const { overflow, more } = edgesHead.value;
  const trouble = Object.values(troubles.value)[0];
  return (
    <span class="state" role="status">
      {streamState.value !== 'live' && <span class="warn">{streamState.value}</span>}
      {streamError.value !== '' && <span class="warn">{shown(streamError.value)}</span>}
      {trouble !== undefined && <span class="warn">{shown(trouble)}</span>}
      {nodes.value !== undefined && (
        <span class={connected < all.length ? 'warn' : ''}>
          {connected}/{all.length} nodes
        </span>
      )}
      {lost > 0 && <span class="warn">{count(lost)} events lost</span>}
      {overflow > 0 && <span class="warn">{count(overflow)} flows without an edge of their own</span>}
      {more && <span class="warn">the oldest edges are left out</span>}
    </span>
  );
}
