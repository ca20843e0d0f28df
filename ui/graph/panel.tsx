/** Beside the drawing: what is selected, in numbers. */
import { into, levelText, type Unit } from '../../src/ui/graph/levels.js';
import { type Entry, type Seen, VERDICTS } from '../../src/ui/graph/model.js';
import { type Chip, chipText } from '../../src/ui/wire/chips.js';
import { GLYPHS, VerdictMark } from '../parts/verdict.js';
import { ago, bytes, count, portText, shown } from '../parts/words.js';
import { edgesHead } from '../state/store.js';
import { chips, go, href, type Screen, set, window_ } from '../state/url.js';
import { select, selected, showMore } from './address.js';
import { LevelLink } from './head.js';
import type { Live } from './live.js';
import { columnTitle, onlyMember, plural, restNode, unitTitle } from './scene.js';

/** Ports and rules that are listed. */
const MOST = 6;

export function Panel({ live }: { live: Live }) {
  live.tick.value;
  const key =
    selected.value !== '' ? selected.value : levelText(live.level).startsWith('wl/') ? levelText(live.level) : '';
  const entries = key === '' ? undefined : live.entriesOf(key);
  if (key === '' || live.graph.nodes.size === 0) return null;
  return (
    <aside class="graph-panel" aria-label="selection">
      {entries ? <Subject live={live} id={key} entries={entries} /> : <Gone />}
    </aside>
  );
}

function Close() {
  if (selected.value === '') return null;
  return (
    <button type="button" class="close" title="drop the selection (Escape)" onClick={() => select('')}>
      <span aria-hidden="true">×</span>
      <span class="sr-only">drop the selection</span>
    </button>
  );
}

function Gone() {
  return (
    <>
      <Close />
      <h2>Not there</h2>
      <p class="dim">What was selected has not been seen in this window, or is filtered out.</p>
    </>
  );
}

function Subject({ live, id, entries }: { live: Live; id: string; entries: readonly Entry[] }) {
  const node = live.graph.nodes.get(id) ?? restNode(id, live.places);
  const [first] = entries;
  const sums = summed(entries);
  return (
    <>
      <Close />
      {node ? (
        <NodeTitle live={live} unit={onlyMember(node) ?? node.unit} members={node.members.size} />
      ) : (
        first && <LineTitle live={live} entry={first} count={entries.length} />
      )}
      <VerdictBar connections={sums.connections} total={sums.total} />
      <dl class="facts">
        <dt>connections</dt>
        <dd>{count(sums.total)}</dd>
        <dt>bytes</dt>
        <dd>{bytes(sums.bytes)}</dd>
        <dt>packets dropped</dt>
        <dd>{count(sums.drops)}</dd>
        <dt>last seen</dt>
        <dd>{ago(sums.lastMs, Date.now() + edgesHead.value.skewMs)}</dd>
      </dl>
      <Actions live={live} unit={node && (onlyMember(node) ?? node.unit)} entries={entries} />
      <Sparkline entries={entries} />
      <Tops title="Ports" rows={top(entries, ({ edge }) => portText(edge.info))} />
      <Tops title="Rules" rows={top(entries, ruleOf)} />
    </>
  );
}

function NodeTitle({ live, unit, members }: { live: Live; unit: Unit; members: number }) {
  const isRest = unit.kind === 'rest';
  const kind =
    unit.kind === 'workload' ? unit.workloadKind : unit.kind === 'nodes' ? 'nodes of the cluster' : unit.kind;
  const column = columnTitle(live.level, Number(unit.key.slice(5)) as 0);
  return (
    <header>
      <p class="kind">{isRest ? `${column}, not drawn` : shown(kind, 40)}</p>
      <h2>{isRest ? `+${count(members)} more` : unitTitle(unit)}</h2>
      {(unit.kind === 'namespace' || unit.kind === 'nodes') && (
        <p class="dim">{plural(members, unit.kind === 'nodes' ? 'node' : 'workload')}</p>
      )}
    </header>
  );
}

function LineTitle({ live, entry, count: edges }: { live: Live; entry: Entry; count: number }) {
  const end = (node: Entry['from']) => unitTitle(onlyMember(node) ?? node.unit);
  const line = live.view?.lines.find((l) => l.key === selected.value);
  const name = (key: string | undefined, node: Entry['from']) => (key?.startsWith('rest/') ? 'several' : end(node));
  return (
    <header>
      <p class="kind">
        <VerdictMark shown={entry.seen} word /> · {plural(edges, 'edge')}
      </p>
      <h2>
        {name(line?.from, entry.from)} <span class="dim">→</span> {name(line?.to, entry.to)}
      </h2>
    </header>
  );
}

interface Sums {
  readonly connections: Record<Seen, number>;
  total: number;
  bytes: number;
  drops: number;
  lastMs: number;
}

function summed(entries: readonly Entry[]): Sums {
  const connections = { denied: 0, 'would-deny': 0, partial: 0, allowed: 0, 'no-policy': 0 };
  const sums: Sums = { connections, total: 0, bytes: 0, drops: 0, lastMs: 0 };
  for (const { edge, seen } of entries) {
    connections[seen] += edge.connections;
    sums.total += edge.connections;
    sums.bytes += edge.bytes;
    sums.drops += edge.drops;
    sums.lastMs = Math.max(sums.lastMs, edge.lastMs);
  }
  return sums;
}

function VerdictBar({ connections, total }: { connections: Readonly<Record<Seen, number>>; total: number }) {
  const there = VERDICTS.filter((seen) => connections[seen] > 0);
  const width = 288;
  let x = 0;
  // What is rare must be seen, too.
  const free = width - 6 * there.length;
  return (
    <div class="verdicts">
      <svg width={width} height="8" aria-hidden="true">
        {there.map((seen) => {
          const w = 6 + (free * connections[seen]) / Math.max(1, total);
          const part = <rect key={seen} class={seen} x={x} y="0" width={Math.max(2, w - 2)} height="8" rx="2" />;
          x += w;
          return part;
        })}
      </svg>
      <ul>
        {there.map((seen) => (
          <li key={seen} class={`verdict ${seen}`}>
            <span aria-hidden="true">{GLYPHS[seen]}</span> {count(connections[seen])} {seen.replace('-', ' ')}
          </li>
        ))}
      </ul>
    </div>
  );
}

/** A link that stays on this page. */
function Go({ to, changes, children }: { to: Screen; changes: Record<string, string | string[]>; children: string }) {
  const address = href(to, changes);
  return (
    <a
      class="button"
      href={address}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        if (to === 'graph') set(changes);
        else go(address);
      }}
    >
      {children}
    </a>
  );
}

function Actions({ live, unit, entries }: { live: Live; unit: Unit | undefined; entries: readonly Entry[] }) {
  const inner = unit && into(unit);
  const important = [...entries].sort(byVerdict)[0];
  return (
    <p class="actions">
      {unit?.kind === 'rest' && (
        <button type="button" onClick={showMore}>
          Show more
        </button>
      )}
      {inner && levelText(inner) !== levelText(live.level) && <LevelLink to={inner}>Open</LevelLink>}
      {!unit && important && (
        <Go to="graph" changes={{ why: `edge:${important.edge.info.id}` }}>
          Why?
        </Go>
      )}
      {unit?.kind === 'workload' && (
        <Go to="recommend" changes={{ workload: `${unit.namespace}/${unit.name}` }}>
          Recommend a policy
        </Go>
      )}
      {important && (
        <Go to="flows" changes={{ f: flowChips(unit, important) }}>
          Flows
        </Go>
      )}
    </p>
  );
}

/** Denied first, then by connections. */
export function byVerdict(a: Entry, b: Entry): number {
  return (
    VERDICTS.indexOf(a.seen) - VERDICTS.indexOf(b.seen) ||
    b.edge.connections - a.edge.connections ||
    a.edge.info.id - b.edge.info.id
  );
}

/** The filters of now, and those for what is selected. */
function flowChips(unit: Unit | undefined, { from, to }: Entry): string[] {
  const all: Chip[] = [...chips.value];
  const of = (one: Unit, side: '' | 'from-' | 'to-') => {
    if (one.kind === 'namespace' || one.kind === 'workload' || one.kind === 'service')
      all.push({ key: `${side}namespace`, value: one.namespace });
    if (one.kind === 'workload') all.push({ key: `${side}workload`, value: one.name });
    if (one.kind === 'address') all.push({ key: `${side}ip`, value: one.name });
    if (one.kind === 'name' && side !== 'from-') all.push({ key: `${side}fqdn`, value: one.name });
  };
  if (unit) of(unit, '');
  else {
    of(from.unit, 'from-');
    of(to.unit, 'to-');
  }
  return [...new Set(all.map(chipText))];
}

function ruleOf({ edge: { info }, seen }: Entry): string {
  if (seen === 'would-deny' && info.auditRule) return `${info.auditRule.text} (staged)`;
  return info.rule?.text ?? info.reason;
}

interface Row {
  readonly text: string;
  readonly seen: Seen;
  connections: number;
}

/** The most used, by what they have in common and by verdict. */
function top(entries: readonly Entry[], text: (entry: Entry) => string): Row[] {
  const rows = new Map<string, Row>();
  for (const entry of entries) {
    const name = text(entry);
    const key = `${entry.seen} ${name}`;
    const row = rows.get(key);
    if (row) row.connections += entry.edge.connections;
    else rows.set(key, { text: name, seen: entry.seen, connections: entry.edge.connections });
  }
  return [...rows.values()].sort(
    (a, b) => VERDICTS.indexOf(a.seen) - VERDICTS.indexOf(b.seen) || b.connections - a.connections,
  );
}

function Tops({ title, rows }: { title: string; rows: readonly Row[] }) {
  return (
    <section class="tops">
      <h3>{title}</h3>
      <ul>
        {rows.slice(0, MOST).map(({ text, seen, connections }) => (
          <li key={`${seen} ${text}`}>
            <VerdictMark shown={seen} />
            <span class="what" title={shown(text, 500)}>
              {shown(text, 120)}
            </span>
            <span class="number">{count(connections)}</span>
          </li>
        ))}
      </ul>
      {rows.length > MOST && <p class="dim">{count(rows.length - MOST)} more in the table</p>}
    </section>
  );
}

/** On how many of the days, or in which hours, something of it was seen. */
function Sparkline({ entries }: { entries: readonly Entry[] }) {
  const isHours = window_.value === 'live' || window_.value === '24h';
  const columns = isHours ? 24 : window_.value === '7d' ? 7 : 35;
  const heights = Array.from({ length: columns }, () => 0);
  for (const { edge } of entries)
    for (let n = 0; n < columns; n++) {
      // 35 days are more than the bits of an operator.
      const bit = isHours ? n : columns - 1 - n;
      if (Math.floor((isHours ? edge.hours : edge.days) / 2 ** bit) % 2 === 1) heights[n] = (heights[n] as number) + 1;
    }
  const most = Math.max(1, ...heights);
  const there = heights.filter((h) => h > 0).length;
  const wide = 288 / columns;
  const words = isHours ? `in ${there} of 24 hours of the day, UTC` : `on ${there} of ${columns} days`;
  return (
    <figure class="sparkline">
      <svg width="288" height="36" role="img" aria-label={`seen ${words}`}>
        {heights.map((h, n) => {
          const tall = h === 0 ? 1.5 : 4 + (30 * h) / most;
          return (
            <rect
              key={n}
              class={h === 0 ? 'empty' : ''}
              x={n * wide}
              y={36 - tall}
              width={wide - 2}
              height={tall}
              rx="1"
            />
          );
        })}
      </svg>
      <figcaption class="dim">seen {words}</figcaption>
    </figure>
  );
}
