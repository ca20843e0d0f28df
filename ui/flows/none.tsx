/** Instead of a table without lines: why there are none, and what can be done. */
import { chipText } from '../../src/ui/wire/chips.js';
import { Empty, Loading } from '../parts/empty.js';
import { ago, shown } from '../parts/words.js';
import { edgesHead, flowsKnown, nodes } from '../state/store.js';
import { streamError, streamState } from '../state/stream.js';
import { chips, dropChip, namespaces, set, setChips, window_ } from '../state/url.js';
import { isSums } from './columns.js';

export function NoFlows() {
  const isFiltered = chips.value.length + namespaces.value.length > 0;
  if (streamError.value !== '')
    return (
      <Empty title="The flows cannot be shown" actions={isFiltered && <Drop />}>
        {shown(streamError.value, 400)}
      </Empty>
    );
  if (streamState.value === 'paused') return <Empty title="Paused while this tab is hidden" />;
  const { beganMs, skewMs, caughtUp } = edgesHead.value;
  if (streamState.value !== 'live' || !(isSums.value ? caughtUp : flowsKnown.value))
    return <Loading what="the flows" />;
  if (isFiltered)
    return (
      <Empty title="Nothing matches" actions={<Drop />}>
        {isSums.value ? `No connection of the window ${window_.value} matches` : 'No flow that is kept matches'} all of
        these. Drop one:
      </Empty>
    );
  return (
    <Empty title="No flows yet">
      {nodes.value?.length === 0 ? 'No node runs an agent.' : 'No pod has sent anything.'}
      {beganMs !== undefined && ` Records began ${ago(beganMs, Date.now() + skewMs)}.`}
    </Empty>
  );
}

function Drop() {
  return (
    <>
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
          All filters <span aria-hidden="true">×</span>
        </button>
      )}
    </>
  );
}
