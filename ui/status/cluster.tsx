/** All nodes: a sentence, what is wrong with policies, and a table with those that need a look first. */
import { useMemo, useRef, useState } from 'preact/hooks';
import type { ClusterFacts, HistoryFacts, NodeRow, NodeWord } from '../../src/ui/wire/status.js';
import { useKeys } from '../frame/keys.js';
import { Empty } from '../parts/empty.js';
import { Table } from '../parts/table.js';
import { bytes, count, shown } from '../parts/words.js';
import { go, href } from '../state/url.js';
import { Fill, Problems } from './pieces.js';
import { counted, duration } from './words.js';

const COLUMNS = [
  { title: 'Node', width: '20%' },
  { title: 'State', width: '118px' },
  { title: 'Policies', width: '150px' },
  { title: 'Pods', width: '84px', isNumber: true },
  { title: 'Hooks', width: '84px', isNumber: true, isExtra: true },
  { title: 'Flows/s', width: '84px', isNumber: true },
  { title: 'Lost', width: '76px', isNumber: true },
  { title: 'Fullest map', width: '124px', isExtra: true },
  { title: 'Version', width: '84px', isExtra: true },
  { title: 'To look at' },
] as const;

export function Cluster({ facts }: { facts: ClusterFacts }) {
  const [text, find] = useState('');
  const [at, mark] = useState(-1);
  const spot = useRef(-1);
  spot.current = at;
  const rows = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    const found = facts.nodes.filter(
      ({ name, troubles, word }) =>
        wanted === '' || name.includes(wanted) || word.includes(wanted) || troubles.some((one) => one.includes(wanted)),
    );
    return found.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
  }, [facts, text]);
  const keys = useMemo(() => {
    // Quick keys come before the next drawing: what is marked is read where it is written.
    const step = (by: number) => () => mark((spot.current = Math.max(0, Math.min(spot.current + by, rows.length - 1))));
    const enter = () => {
      const row = rows[spot.current];
      if (row) go(nodeHref(row.name));
    };
    return [
      { keys: 'j', about: 'next node', run: step(1) },
      { keys: 'k', about: 'node before', run: step(-1) },
      { keys: 'Enter', about: 'open the node', run: enter },
    ];
  }, [rows]);
  useKeys(keys);
  return (
    <div class="status">
      <div class="status-head">
        <div>
          <h2>{headline(facts)}</h2>
          <p class="dim">{summary(facts.nodes)}</p>
        </div>
        <input
          type="search"
          placeholder="Find a node or a trouble"
          aria-label="find a node or a trouble"
          value={text}
          onInput={(event) => {
            find(event.currentTarget.value);
            mark(-1);
          }}
        />
      </div>
      <Problems list={facts.problems} more={facts.moreProblems} ofCluster />
      {rows.length === 0 ? (
        <Empty title="No node matches">
          <p>No node has “{shown(text, 60)}” in its name, its state or its troubles.</p>
        </Empty>
      ) : (
        <Table
          label="nodes"
          columns={COLUMNS}
          total={rows.length}
          rowHeight={34}
          keyOf={(n) => rows[n]?.name ?? n}
          cells={(n) => cellsOf(rows[n] as NodeRow)}
          active={at}
          onRow={(n) => go(nodeHref(rows[n]?.name ?? ''))}
        />
      )}
      {facts.history && <History history={facts.history} nowMs={facts.nowMs} />}
    </div>
  );
}

function nodeHref(name: string): string {
  return href('status', { node: name });
}

const RANKS: Readonly<Record<NodeWord, number>> = { silent: 0, error: 0, stale: 1, connected: 2 };

function rank({ word, troubles }: NodeRow): number {
  return RANKS[word] * 2 + (troubles.length > 0 ? 0 : 1);
}

/** `4 of 5 nodes answer, 1 policy is refused` */
function headline({ nodes, problems }: ClusterFacts): string {
  const answering = nodes.filter(({ version }) => version !== '').length;
  const stale = nodes.filter(({ word }) => word === 'stale').length;
  const refused = new Set(problems.filter(({ severity }) => severity === 'error').map(({ object }) => object)).size;
  const parts = [
    answering === nodes.length
      ? `All ${count(nodes.length)} nodes answer`
      : `${count(answering)} of ${counted(nodes.length, 'node')} answer`,
    ...(stale > 0 ? [`${counted(stale, 'node')} ${stale === 1 ? 'has' : 'have'} no newer policies`] : []),
    ...(refused > 0 ? [`${counted(refused, 'policy', 'policies')} ${refused === 1 ? 'is' : 'are'} refused`] : []),
  ];
  return parts.join(', ');
}

function summary(nodes: readonly NodeRow[]): string {
  const sum = (of: (row: NodeRow) => number) => nodes.reduce((n, row) => n + of(row), 0);
  const most = (of: (row: NodeRow) => number) => nodes.reduce((n, row) => Math.max(n, of(row)), 0);
  const versions = new Set(nodes.map(({ version }) => version).filter((version) => version !== ''));
  // Who may not see the whole cluster is not told its numbers.
  const isTold = nodes.some(({ inForce }) => inForce !== undefined);
  return [
    ...(isTold
      ? [
          `${counted(
            most((row) => row.inForce ?? 0),
            'policy',
            'policies',
          )} in force, ${count(most((row) => row.staged ?? 0))} staged`,
        ]
      : []),
    `${count(sum((row) => row.enforced))} of ${counted(
      sum((row) => row.pods),
      'pod',
    )} selected`,
    ...(isTold ? [`${count(Math.round(sum((row) => row.flowsPerSecond ?? 0)))} flows a second`] : []),
    versions.size === 1 ? `version ${shown([...versions].join(), 40)}` : `${versions.size} versions`,
  ].join(' · ');
}

const STATES: Readonly<Record<NodeWord, { glyph: string; word: string; class: string }>> = {
  connected: { glyph: '●', word: 'Connected', class: 'allowed' },
  stale: { glyph: '◐', word: 'Stale', class: 'would-deny' },
  silent: { glyph: '✕', word: 'No answer', class: 'denied' },
  error: { glyph: '✕', word: 'Error', class: 'denied' },
};

export function NodeState({ word }: { word: NodeWord }) {
  const { glyph, word: text, class: color } = STATES[word];
  return (
    <span class={`state-mark verdict ${color}`}>
      <span aria-hidden="true">{glyph}</span> {text}
    </span>
  );
}

function cellsOf(row: NodeRow) {
  const answers = row.version !== '';
  const { inForce, staged = 0, refused = 0, hooks = 0, hooksExpected = 0, flowsPerSecond = 0, lost = 0 } = row;
  const policies = [
    count(inForce ?? 0),
    ...(staged > 0 ? [`${count(staged)} staged`] : []),
    ...(refused > 0 ? [`${count(refused)} refused`] : []),
  ].join(', ');
  // Who may not see the whole cluster is not told its numbers.
  const isTold = answers && inForce !== undefined;
  const [first, ...others] = row.troubles;
  return [
    <a
      key="name"
      href={nodeHref(row.name)}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(nodeHref(row.name));
      }}
    >
      {shown(row.name)}
    </a>,
    <NodeState key="state" word={row.word} />,
    isTold ? <span class={refused > 0 ? 'bad' : ''}>{policies}</span> : '–',
    answers ? `${count(row.enforced)}/${count(row.pods)}` : '–',
    isTold ? <span class={hooks < hooksExpected ? 'bad' : ''}>{`${hooks}/${hooksExpected}`}</span> : '–',
    isTold ? flowsPerSecond.toFixed(1) : '–',
    isTold ? <span class={lost > 0 ? 'warn' : ''}>{count(lost)}</span> : '–',
    isTold ? <Fill key="fill" share={row.fullest} title={row.fullestMap} /> : '–',
    shown(row.version, 30) || '–',
    first === undefined ? (
      ''
    ) : (
      <span
        key="troubles"
        class={answers ? 'warn' : 'bad'}
        title={row.troubles.map((one) => shown(one, 300)).join('; ')}
      >
        {shown(first, 200)}
        {others.length > 0 && ` +${others.length}`}
      </span>
    ),
  ];
}

/** What a relay keeps. */
export function History({ history, nowMs }: { history: HistoryFacts; nowMs: number }) {
  const { place, days, edges, bytes: size, rowsLost, failingSinceMs, error } = history;
  return (
    <p class="history dim">
      History in {shown(place, 100)}: {counted(days, 'day')}, {counted(edges, 'edge')}, {bytes(size)}.
      {rowsLost > 0 && <span class="warn"> {count(rowsLost)} rows were lost.</span>}
      {failingSinceMs > 0 && (
        <span class="bad">
          {' '}
          It cannot be written for {duration(nowMs - failingSinceMs)}: {shown(error, 300)}
        </span>
      )}
    </p>
  );
}
