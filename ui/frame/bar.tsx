/** The bar: namespaces, time, filters, and how much of it all there is to see. */
import { CHIP_KEYS, type Chip, chipText } from '../../src/ui/wire/chips.js';
import { WINDOWS, type Window } from '../../src/ui/wire/messages.js';
import { Popup } from '../parts/overlay.js';
import { shown } from '../parts/words.js';
import { post, session } from '../state/api.js';
import { appliesToEdges } from '../state/match.js';
import { chips, dropChip, namespaces, set, setChips, window_ } from '../state/url.js';
import { Health } from './health.js';
import { NamespacePicker } from './namespaces.js';
import { Query } from './query.js';

export function Bar() {
  return (
    <header class="bar">
      <div class="bar-row">
        <NamespacePicker />
        <TimeWindow />
        <Query />
        <span class="grow" />
        <Health />
        <Source />
      </div>
      <Chips />
    </header>
  );
}

const SPANS: Readonly<Record<Window, { short: string; about: string }>> = {
  live: { short: 'Live', about: 'seen in the last 15 minutes' },
  '24h': { short: '24 h', about: 'the last 24 hours' },
  '7d': { short: '7 d', about: 'the last 7 days' },
  '35d': { short: '35 d', about: 'the last 35 days' },
};

function TimeWindow() {
  return (
    <fieldset class="segments">
      <legend class="sr-only">time</legend>
      {WINDOWS.map((span) => (
        <label key={span} title={SPANS[span].about}>
          <input
            type="radio"
            name="window"
            value={span}
            checked={window_.value === span}
            onChange={() => set({ w: span === 'live' ? undefined : span })}
          />
          <span>{SPANS[span].short}</span>
        </label>
      ))}
    </fieldset>
  );
}

function Chips() {
  const [chosen, filters] = [namespaces.value, chips.value];
  if (chosen.length + filters.length === 0) return null;
  return (
    <div class="chips">
      <ul aria-label="filters">
        {chosen.map((name) => (
          <li class="chip" key={`ns ${name}`}>
            <span class="chip-text">
              <span class="dim">in</span> {name}
            </span>
            <Drop what={`namespace ${name}`} drop={() => set({ ns: chosen.filter((one) => one !== name) })} />
          </li>
        ))}
        {filters.map((chip) => (
          <FilterChip key={chipText(chip)} chip={chip} />
        ))}
      </ul>
      <button type="button" class="quiet" onClick={() => set({ ns: [], f: [] })}>
        Drop all
      </button>
    </div>
  );
}

/** A filter: a click on it turns it into its opposite. */
function FilterChip({ chip }: { chip: Chip }) {
  const { not = false, key, value } = chip;
  const ofFlows = !appliesToEdges(chip);
  const turned: Chip = { key, value, ...(not ? {} : { not: true }) };
  const about = `${CHIP_KEYS[key]}${ofFlows ? '; flows have it, and the graph does not' : ''}`;
  return (
    <li class={`chip${ofFlows ? ' flows-only' : ''}${not ? ' not' : ''}`}>
      <button
        type="button"
        class="chip-text"
        aria-pressed={not}
        aria-label={`not ${key}: ${shown(value, 60)}`}
        title={`${about}; click for ${not ? 'only these' : 'all but these'}`}
        onClick={() => setChips(chips.value.map((one) => (chipText(one) === chipText(chip) ? turned : one)))}
      >
        {not && <strong>not </strong>}
        <span class="dim">{key}</span> {shown(value, 60)}
      </button>
      <Drop what={shown(chipText(chip), 80)} drop={() => dropChip(chip)} />
    </li>
  );
}

function Drop({ what, drop }: { what: string; drop: () => void }) {
  return (
    <button type="button" class="chip-drop" aria-label={`drop ${what}`} title="drop" onClick={drop}>
      <svg viewBox="0 0 10 10" width="8" height="8" aria-hidden="true">
        <path d="M1 1l8 8M9 1L1 9" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />
      </svg>
    </button>
  );
}

/** What is looked at, and who looks. */
function Source() {
  const own = session.value;
  if (!own) return null;
  const limited = own.namespaces;
  return (
    <Popup right class="quiet source" label={`source: ${shown(own.source, 40)}`} button={shown(own.source, 40)}>
      {() => (
        <dl class="panel-body fact-list">
          <dt>Source</dt>
          <dd>{shown(own.source)}</dd>
          <dt>User</dt>
          <dd>{own.user === '' ? 'whoever may use the socket or the kubeconfig' : shown(own.user)}</dd>
          <dt>May see</dt>
          <dd>{limited ? shown(limited.join(', '), 500) || 'no namespace' : 'all namespaces'}</dd>
          <dt>May change</dt>
          <dd>
            {own.writes ? 'policies, with the rights of this user' : `nothing: ${shown(own.readOnly ?? 'read only')}`}
          </dd>
          <dt>Version</dt>
          <dd>{shown(own.version, 60)}</dd>
          {own.signedIn && (
            <>
              <dt>Session</dt>
              <dd>
                <button type="button" onClick={() => void post('logout', {}).finally(() => location.reload())}>
                  Sign out
                </button>
              </dd>
            </>
          )}
        </dl>
      )}
    </Popup>
  );
}
