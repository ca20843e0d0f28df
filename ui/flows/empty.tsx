/** Instead of a table without lines: why there are none, and what can be done. */
import { chipText } from '../../src/ui/wire/chips.js';
import { ago, shown } from '../parts/words.js';
import { edgesHead, nodes } from '../state/store.js';
import { streamError, streamState } from '../state/stream.js';
import { chips, dropChip, namespaces, set, setChips, window_ } from '../state/url.js';
import { isSums } from './columns.js';

export function Empty() {
  const filtered = chips.value.length + namespaces.value.length;
  const { beganMs, skewMs, caughtUp } = edgesHead.value;
  const since = beganMs === undefined ? '' : ` Records began ${ago(beganMs, Date.now() + skewMs)}.`;
  if (streamError.value !== '')
    return (
      <div class="empty" role="status">
        <h2>The flows cannot be shown</h2>
        <p>{shown(streamError.value, 400)}</p>
        {filtered > 0 && <Drop />}
      </div>
    );
  if (streamState.value !== 'live' || (isSums.value && !caughtUp))
    return (
      <div class="empty" role="status">
        <h2>{streamState.value === 'paused' ? 'Paused while this tab is hidden' : 'Connecting…'}</h2>
        <p>Waiting for the first flows.</p>
      </div>
    );
  if (filtered > 0)
    return (
      <div class="empty" role="status">
        <h2>Nothing matches</h2>
        <p>
          {isSums.value ? `No connection of the window ${window_.value} matches` : 'No flow that is kept matches'} all
          of these. Drop one:
        </p>
        <Drop />
      </div>
    );
  return (
    <div class="empty" role="status">
      <h2>No flows yet</h2>
      <p>
        {nodes.value?.length === 0 ? 'No node runs an agent.' : 'No pod has sent anything.'}
        {since}
      </p>
    </div>
  );
}

function Drop() {
  return (
    <p class="drop">
      {namespaces.value.map((ns) => (
        <button key={ns} type="button" onClick={() => set({ ns: namespaces.value.filter((n) => n !== ns) })}>
          namespace {ns} <span aria-hidden="true">×</span>
        </button>
      ))}
      {chips.value.map((chip) => (
        <button key={chipText(chip)} type="button" onClick={() => dropChip(chip)}>
          {shown(chipText(chip), 60)} <span aria-hidden="true">×</span>
        </button>
      ))}
      {chips.value.length > 1 && (
        <button type="button" onClick={() => setChips([])}>
          all filters <span aria-hidden="true">×</span>
        </button>
      )}
    </p>
  );
}
