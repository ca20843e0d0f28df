/** The columns of the table: their widths, and what stands in them. */
import { computed } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { type Chip, chipText } from '../../src/ui/wire/chips.js';
import { VerdictMark } from '../parts/verdict.js';
import { ago, bytes, count, shown, timeOfDay } from '../parts/words.js';
import { param, set } from '../state/url.js';
import type { End, Line } from './lines.js';

export interface Column {
  readonly id: string;
  readonly title: string;
  /** As a track of a CSS grid: columns share what the fixed ones leave. */
  readonly width: string;
  readonly isNumber?: boolean;
  readonly cell: (line: Line, nowMs: number) => ComponentChildren;
}

const TIME: Column = {
  id: 'time',
  title: 'Time',
  width: '100px',
  cell: ({ timeMs }) => <span title={dateText(timeMs)}>{timeOfDay(timeMs)}</span>,
};
const LAST: Column = {
  id: 'time',
  title: 'Last seen',
  width: '88px',
  cell: ({ timeMs }, nowMs) => <span title={dateText(timeMs)}>{ago(timeMs, nowMs)}</span>,
};
const VERDICT: Column = {
  id: 'verdict',
  title: 'Verdict',
  width: '150px',
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
const ENDS: Column = {
  id: 'from',
  title: 'Source',
  width: 'minmax(110px, 1.1fr)',
  cell: ({ from, chips }) => <EndValue end={from} chip={chips.from[0]} />,
};
const TO: Column = {
  id: 'to',
  title: 'Destination',
  width: 'minmax(150px, 1.7fr)',
  cell: ({ to, port, chips }) => (
    <>
      <span class="arrow" aria-hidden="true">
        →
      </span>
      <EndValue end={to} chip={chips.to[0]} />
      <Value chip={chips.port[0]} className="port">
        {shown(port, 20)}
      </Value>
    </>
  ),
};
const NAME: Column = {
  id: 'name',
  title: 'Name',
  width: 'minmax(80px, 1.2fr)',
  cell: ({ name, chips }) => (
    <Value chip={chips.name[0]} title={name}>
      {shown(name, 120)}
    </Value>
  ),
};
const RULE: Column = {
  id: 'rule',
  title: 'Rule',
  width: 'minmax(110px, 1.5fr)',
  cell: ({ rule, reason }) =>
    rule ? (
      <span class="rule" title={shown(rule.text)}>
        {shown(rule.text, 120)}
      </span>
    ) : (
      <span class="reason" title={reason}>
        {reason}
      </span>
    ),
};
const STAGED: Column = {
  id: 'staged',
  title: 'Staged',
  width: 'minmax(70px, 1fr)',
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
  width: '72px',
  isNumber: true,
  cell: (line) => (line.bytes === 0 ? '' : bytes(line.bytes)),
};
const COUNT: Column = {
  id: 'count',
  title: 'Times',
  width: '84px',
  isNumber: true,
  cell: ({ connections }) => `×${count(connections)}`,
};
const NODE: Column = {
  id: 'node',
  title: 'Node',
  width: 'minmax(70px, 110px)',
  cell: ({ node, chips }) => (
    <Value chip={chips.node[0]} title={node}>
      {shown(node, 80)}
    </Value>
  ),
};

const RAW: readonly Column[] = [TIME, VERDICT, ENDS, TO, NAME, RULE, STAGED, BYTES, NODE];
const SUMS: readonly Column[] = [LAST, VERDICT, ENDS, TO, NAME, RULE, STAGED, COUNT, BYTES];

export const isSums = computed(() => param('mode') === 'sums');
export const allColumns = computed(() => (isSums.value ? SUMS : RAW));
const hidden = computed(() => new Set((param('hide') ?? '').split('.')));
export const columns = computed(() => allColumns.value.filter(({ id }) => !hidden.value.has(id)));

/** Hides a column, or shows it. The last one stays. */
export function toggleColumn(id: string): void {
  const next = new Set(hidden.value);
  if (!next.delete(id)) next.add(id);
  const ids = allColumns.value.map((c) => c.id).filter((one) => next.has(one));
  if (ids.length < allColumns.value.length) set({ hide: ids.length === 0 ? undefined : ids.join('.') }, true);
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
