/** The columns of the table: their widths, and what stands in them. */
import { computed } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { type Chip, chipText } from '../../src/ui/wire/chips.js';
import { reasonText } from '../../src/ui/wire/then.js';
import { VerdictMark } from '../parts/verdict.js';
import { ago, bytes, count, shown, timeOfDay } from '../parts/words.js';
import { nodes } from '../state/store.js';
import { param, set } from '../state/url.js';
import type { End, Line } from './lines.js';

export interface Column {
  readonly id: string;
  readonly title: string;
  /** Pixels; absent: as its texts need. */
  readonly width?: number;
  readonly isNumber?: boolean;
  readonly cell: (line: Line, nowMs: number) => ComponentChildren;
}

const TIME: Column = {
  id: 'time',
  title: 'Time',
  width: 92,
  cell: ({ timeMs }) => <span title={dateText(timeMs)}>{timeOfDay(timeMs)}</span>,
};
const LAST: Column = {
  id: 'time',
  title: 'Last seen',
  width: 88,
  cell: ({ timeMs }, nowMs) => <span title={dateText(timeMs)}>{ago(timeMs, nowMs)}</span>,
};
const VERDICT: Column = {
  id: 'verdict',
  title: 'Verdict',
  width: 132,
  cell: ({ shown: verdict, event, chips }) => (
    <>
      <Value chip={chips.verdict[0]}>
        {verdict === 'logged' ? (
          <span class="verdict no-policy">
            <span aria-hidden="true">≡</span> logged
          </span>
        ) : (
          <VerdictMark shown={verdict} word />
        )}
      </Value>
      {event !== '' && <span class="event">{event}</span>}
    </>
  ),
};
const FROM: Column = {
  id: 'from',
  title: 'Source',
  cell: ({ from, chips }) => <EndValue end={from} chip={chips.from[0]} />,
};
const TO: Column = {
  id: 'to',
  title: 'Destination',
  cell: ({ to, port, chips }) => (
    <>
      <span class="arrow" aria-hidden="true">
        →
      </span>
      <EndValue end={to} chip={chips.to[0]} />
      <Value chip={chips.port[0]} className="to-port">
        {shown(port, 20)}
      </Value>
    </>
  ),
};
const NAME: Column = {
  id: 'name',
  title: 'Name',
  cell: ({ name, chips }) => (
    <Value chip={chips.name[0]} title={name}>
      {shown(name, 120)}
    </Value>
  ),
};
const RULE: Column = {
  id: 'rule',
  title: 'Rule',
  cell: ({ rule, reason }) =>
    rule ? (
      <span class="rule" title={shown(rule.text)}>
        {shown(rule.text, 120)}
      </span>
    ) : (
      <span class="reason" title={reasonText(reason)}>
        {shown(reason.replaceAll('-', ' '), 60)}
      </span>
    ),
};
const STAGED: Column = {
  id: 'staged',
  title: 'Staged',
  cell: ({ staged }) =>
    staged !== '' && (
      <span class="staged" title={`staged policies would ${shown(staged)}`}>
        ◐ {shown(staged, 100)}
      </span>
    ),
};
const BYTES: Column = {
  id: 'bytes',
  title: 'Bytes',
  width: 64,
  isNumber: true,
  cell: (line) => (line.bytes === 0 ? '' : bytes(line.bytes)),
};
const COUNT: Column = {
  id: 'count',
  title: 'Times',
  width: 84,
  isNumber: true,
  cell: ({ connections }) => `×${count(connections)}`,
};
const NODE: Column = {
  id: 'node',
  title: 'Node',
  cell: ({ node, chips }) => (
    <Value chip={chips.node[0]} title={node}>
      {shown(node, 80)}
    </Value>
  ),
};

const RAW: readonly Column[] = [TIME, VERDICT, FROM, TO, NAME, RULE, STAGED, BYTES, NODE];
const SUMS: readonly Column[] = [LAST, VERDICT, FROM, TO, NAME, RULE, STAGED, COUNT, BYTES];

export const isSums = computed(() => param('mode') === 'sums');
export const allColumns = computed(() => (isSums.value ? SUMS : RAW));
/** Where there is one node alone, it need not be said of each line. */
const hidden = computed(() => new Set((param('hide') ?? ((nodes.value?.length ?? 1) > 1 ? '' : 'node')).split('.')));
export const columns = computed(() => allColumns.value.filter(({ id }) => !hidden.value.has(id)));

/** Hides a column, or shows it. The last one stays. */
export function toggleColumn(id: string): void {
  const next = new Set(hidden.value);
  if (!next.delete(id)) next.add(id);
  const ids = allColumns.value.map((c) => c.id).filter((one) => next.has(one));
  if (ids.length < allColumns.value.length) set({ hide: ids.join('.') }, true);
}

export function isHidden(id: string): boolean {
  return hidden.value.has(id);
}

function EndValue({ end, chip }: { end: End; chip: Chip | undefined }) {
  return (
    <Value chip={chip} title={end.title} className="end">
      {end.before !== '' && <span class="before">{shown(end.before, 70)}</span>}
      {shown(end.text, 120)}
    </Value>
  );
}

/** Adds its chip when it is clicked: the table listens. The keys for the same are those of the whole line. */
function Value({ chip, title, className = '', children }: ValueProps) {
  if (!chip)
    return (
      <span class={className} title={title && shown(title)}>
        {children}
      </span>
    );
  const text = chipText(chip);
  return (
    <span
      class={`value ${className}`}
      data-chip={text}
      title={`${title ? `${shown(title)}\n` : ''}click: only ${shown(text, 80)}`}
    >
      {children}
    </span>
  );
}

interface ValueProps {
  readonly chip: Chip | undefined;
  readonly title?: string;
  readonly className?: string;
  readonly children: ComponentChildren;
}

function dateText(ms: number): string {
  return ms > 0 ? new Date(ms).toLocaleString() : '';
}
