/** Above the table: what is shown of how many, pause, columns, export. */
import { Popup } from '../parts/overlay.js';
import { count } from '../parts/words.js';
import { edges, edgesHead, edgesTick, flowCounts, flowsTick, MOST_FLOWS } from '../state/store.js';
import { set, window_ } from '../state/url.js';
import { allColumns, isHidden, isSums, toggleColumn } from './columns.js';
import { save } from './export.js';
import { lineCount, newCount, pause, paused, resume } from './rows.js';

const FORMATS = [
  ['csv', 'CSV of what is shown'],
  ['jsonl', 'JSON lines of what is shown'],
] as const;

export function Tools() {
  const isPaused = paused.value !== undefined;
  const more = newCount();
  return (
    <div class="tools">
      <fieldset class="modes" aria-label="what is shown">
        <button type="button" aria-pressed={!isSums.value} onClick={() => set({ mode: undefined })}>
          Single flows
        </button>
        <button type="button" aria-pressed={isSums.value} onClick={() => set({ mode: 'sums' })}>
          Summed up
        </button>
      </fieldset>
      <button type="button" aria-pressed={isPaused} onClick={() => (isPaused ? resume() : pause())} title="Space">
        <span aria-hidden="true">{isPaused ? '▶' : '❙❙'}</span> {isPaused ? 'Go on' : 'Pause'}
      </button>
      {more > 0 && (
        <button type="button" class="more" onClick={resume}>
          {count(more)} new
        </button>
      )}
      <Words />
      <div class="menus">
        <Popup button={<>Columns ▾</>} label="columns" right>
          {() => (
            <fieldset class="choices">
              <legend class="sr-only">columns</legend>
              {allColumns.value.map(({ id, title }) => (
                <label key={id}>
                  <input type="checkbox" checked={!isHidden(id)} onChange={() => toggleColumn(id)} /> {title}
                </label>
              ))}
            </fieldset>
          )}
        </Popup>
        <Popup button={<>Export ▾</>} label="export what is shown" right>
          {(close) => (
            <div class="choices">
              {FORMATS.map(([format, title]) => (
                <button
                  key={format}
                  type="button"
                  class="quiet"
                  onClick={() => {
                    void save(format);
                    close();
                  }}
                >
                  {title}
                </button>
              ))}
            </div>
          )}
        </Popup>
      </div>
    </div>
  );
}

/** How much of all that is. */
function Words() {
  const n = lineCount();
  if (isSums.value) {
    void edgesTick.value;
    const { more } = edgesHead.value;
    return (
      <p class="words">
        {n === edges.size ? `${count(n)} connections` : `${count(n)} of ${count(edges.size)} connections`} of{' '}
        {window_.value === 'live'
          ? 'the last 15 minutes'
          : `the last ${window_.value.replace('h', ' hours').replace('d', ' days')}`}
        {more && ', the oldest are left out'}
      </p>
    );
  }
  void flowsTick.value;
  const { seen, shown, lost } = flowCounts;
  return (
    <p class="words">
      {seen > shown ? `${count(shown)} of ${count(seen)} flows shown` : `${count(shown)} flows`}
      {shown > MOST_FLOWS && `, the last ${count(MOST_FLOWS)} kept`}
      {lost > 0 && <span class="lost">, {count(lost)} lost on the way</span>}
    </p>
  );
}
