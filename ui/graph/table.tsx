/** The edges of what is selected, or of all: below the drawing, or in its place. Rows that are not seen are not there. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Entry } from '../../src/ui/graph/model.js';
import { VERDICTS } from '../../src/ui/graph/model.js';
import { VerdictMark } from '../parts/verdict.js';
import { ago, bytes, count, partyText, portText, shown } from '../parts/words.js';
import { edgesHead } from '../state/store.js';
import { href, param, set } from '../state/url.js';
import { isTable, select, selected } from './address.js';
import type { Live } from './live.js';

const ROW = 28;
/** How long rows keep their order, however their numbers change. */
const SORT_MS = 3000;
/** Above and below what is seen. */
const SPARE = 8;

const COLUMNS = {
  verdict: ['Verdict', (e: Entry) => VERDICTS.indexOf(e.seen)],
  source: ['Source', (e: Entry) => partyText(e.edge.info.source)],
  destination: ['Destination', (e: Entry) => partyText(e.edge.info.destination)],
  port: ['Port', (e: Entry) => e.edge.info.port],
  service: ['Service', (e: Entry) => e.edge.info.service],
  rule: ['Rule', ruleText],
  connections: ['Connections', (e: Entry) => e.edge.connections],
  bytes: ['Bytes', (e: Entry) => e.edge.bytes],
  seen: ['Last seen', (e: Entry) => e.edge.lastMs],
} as const;
type Name = keyof typeof COLUMNS;
const NUMBERS: ReadonlySet<Name> = new Set(['connections', 'bytes', 'seen']);

function ruleText({ edge: { info }, seen }: Entry): string {
  if (seen === 'would-deny' && info.auditRule) return `${info.auditRule.text} (staged)`;
  return info.rule?.text ?? info.reason;
}

/** `verdict`, `-bytes`: by what, and whether the largest comes first. */
function order(): { readonly name: Name; readonly sign: number } {
  const text = param('sort') ?? 'verdict';
  const name = text.replace(/^-/, '');
  return Object.hasOwn(COLUMNS, name)
    ? { name: name as Name, sign: text.startsWith('-') ? -1 : 1 }
    : { name: 'verdict', sign: 1 };
}

function sorted(entries: readonly Entry[]): Entry[] {
  const { name, sign } = order();
  const by = COLUMNS[name][1];
  const keyed = entries.map((entry) => [by(entry), entry] as const);
  keyed.sort(([a, x], [b, y]) => {
    if (a !== b) return a < b ? -sign : sign;
    return y.edge.connections - x.edge.connections || x.edge.info.id - y.edge.info.id;
  });
  return keyed.map(([, entry]) => entry);
}

export function EdgeTable({ live }: { live: Live }) {
  live.tick.value;
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const high = useSignal(400);
  const held = useRef<readonly Entry[]>([]);
  const isHeld = useSignal(false);
  const reason = `${selected.value} ${param('sort')} ${isTable.value}`;
  const heldReason = useRef('');
  const sortedAt = useRef(0);
  const entries = live.entriesOf(selected.value) ?? [];
  // Rows do not move under the pointer or the focus; what has gone goes, and what is new comes last.
  let rows: readonly Entry[];
  const isOld = performance.now() - sortedAt.current > SORT_MS;
  const isSame = entries.length === held.current.length;
  if (heldReason.current === reason && (isHeld.value || (!isOld && isSame))) {
    const there = new Set(entries);
    rows = held.current.filter((entry) => there.delete(entry)).concat([...there]);
  } else {
    rows = sorted(entries);
    sortedAt.current = performance.now();
  }
  held.current = rows;
  heldReason.current = reason;
  useEffect(() => {
    const element = box.current as HTMLDivElement;
    const observer = new ResizeObserver(() => {
      high.value = element.clientHeight;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [high]);
  useEffect(() => {
    (box.current as HTMLDivElement).scrollTop = 0;
  }, [reason]);
  const first = Math.max(0, Math.min(Math.floor(top.value / ROW) - SPARE, rows.length - 1));
  const last = Math.min(rows.length, Math.ceil((top.value + high.value) / ROW) + SPARE);
  const nowMs = Date.now() + edgesHead.value.skewMs;
  return (
    <section class="edges" aria-label="edges">
      <p class="about">
        {count(rows.length)} {rows.length === 1 ? 'edge' : 'edges'}
        {selected.value !== '' && (
          <>
            {' of the selection '}
            <button type="button" class="hides" onClick={() => select('')}>
              show all <span aria-hidden="true">×</span>
            </button>
          </>
        )}
      </p>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms */}
      <div
        class="scroll"
        ref={box}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
        tabIndex={0}
        role="group"
        aria-label="table of edges"
        onScroll={(e) => {
          top.value = e.currentTarget.scrollTop;
        }}
        onPointerEnter={() => void (isHeld.value = true)}
        onPointerLeave={() => void (isHeld.value = false)}
        onFocusIn={() => void (isHeld.value = true)}
        onFocusOut={() => void (isHeld.value = false)}
      >
        <table aria-rowcount={rows.length + 1}>
          <thead>
            <tr>
              {(Object.keys(COLUMNS) as Name[]).map((name) => (
                <Sorter key={name} name={name} />
              ))}
              <th scope="col">
                <span class="sr-only">Why</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {first > 0 && <Gap rows={first} />}
            {rows.slice(first, last).map((entry, n) => (
              <Row key={entry.edge.info.id} entry={entry} index={first + n + 2} nowMs={nowMs} />
            ))}
            {last < rows.length && <Gap rows={rows.length - last} />}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Room for rows that are not there. */
function Gap({ rows }: { rows: number }) {
  return (
    <tr>
      <td colSpan={10} class="gap" style={{ height: `${rows * ROW}px` }} />
    </tr>
  );
}

function Sorter({ name }: { name: Name }) {
  const now = order();
  const isNow = now.name === name;
  // Numbers begin with the largest.
  const next = isNow ? (now.sign > 0 ? `-${name}` : name) : NUMBERS.has(name) ? `-${name}` : name;
  return (
    <th
      scope="col"
      class={NUMBERS.has(name) ? 'number' : ''}
      aria-sort={isNow ? (now.sign > 0 ? 'ascending' : 'descending') : undefined}
    >
      <button type="button" onClick={() => set({ sort: next === 'verdict' ? undefined : next }, true)}>
        {COLUMNS[name][0]}
        <span aria-hidden="true">{isNow ? (now.sign > 0 ? ' ↑' : ' ↓') : ''}</span>
      </button>
    </th>
  );
}

function Row({ entry, index, nowMs }: { entry: Entry; index: number; nowMs: number }) {
  const { info, connections, bytes: sent, lastMs } = entry.edge;
  const rule = shown(ruleText(entry), 300);
  const why = `edge:${info.id}`;
  const [source, destination] = [shown(partyText(info.source)), shown(partyText(info.destination))];
  return (
    <tr aria-rowindex={index}>
      <td>
        <VerdictMark shown={entry.seen} word />
      </td>
      <td title={source}>{source}</td>
      <td title={destination}>{destination}</td>
      <td>{portText(info)}</td>
      <td title={shown(info.service)}>{shown(info.service)}</td>
      <td title={rule}>{rule}</td>
      <td class="number">{count(connections)}</td>
      <td class="number">{bytes(sent)}</td>
      <td class="number">{ago(lastMs, nowMs)}</td>
      <td>
        <a
          href={href('graph', { why })}
          aria-label={`why: ${source} to ${destination}, ${portText(info)}`}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            set({ why });
          }}
        >
          why
        </a>
      </td>
    </tr>
  );
}
