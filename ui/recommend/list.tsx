/** Workloads, those without policies first. */
import { useMemo, useRef, useState } from 'preact/hooks';
import { MIN_DAYS, type RecommendList, type RecommendListRow } from '../../src/ui/wire/recommend.js';
import { useKeys } from '../frame/keys.js';
import { Empty } from '../parts/empty.js';
import { Table } from '../parts/table.js';
import { count, shown } from '../parts/words.js';
import type { Answer } from '../state/answer.js';
import { go, set } from '../state/url.js';
import { detailHref, minDays, showsAll } from './state.js';
import { StateMark } from './marks.js';

const COLUMNS = [
  { title: 'Workload', width: '26%' },
  { title: 'State', width: '104px' },
  { title: 'Seen on', width: '150px' },
  { title: 'Policies', width: '84px', isNumber: true, isExtra: true },
  { title: 'Rules', width: '68px', isNumber: true },
  { title: 'Left out', width: '84px', isNumber: true },
  { title: 'Missed', width: '78px', isNumber: true, isExtra: true },
  { title: 'Why' },
] as const;

interface ListProps {
  readonly list: RecommendList;
  readonly answer: Answer<RecommendList>;
  readonly retry: () => void;
}

export function List({ list, answer, retry }: ListProps) {
  const [text, find] = useState('');
  const [at, mark] = useState(-1);
  const spot = useRef(-1);
  spot.current = at;
  const all = useMemo(() => [...list.workloads].sort(byNeed), [list]);
  const open = all.filter(isOpen);
  const isAll = showsAll.value;
  const rows = useMemo(() => {
    const shownNow = isAll ? all : open;
    return text === '' ? shownNow : shownNow.filter(({ workload }) => workload.includes(text.trim()));
  }, [all, isAll, text]);
  const keys = useMemo(() => {
    // Quick keys come before the next drawing: what is marked is read where it is written.
    const step = (by: number) => () => mark((spot.current = Math.max(0, Math.min(spot.current + by, rows.length - 1))));
    const enter = () => {
      const row = rows[spot.current];
      if (row) go(detailHref(row));
    };
    return [
      { keys: 'j', about: 'next workload', run: step(1) },
      { keys: 'k', about: 'workload before', run: step(-1) },
      { keys: 'Enter', about: 'open the recommendation', run: enter },
    ];
  }, [rows]);
  useKeys(keys);
  const stable = open.filter(({ state, refused }) => state === 'stable' && refused === undefined).length;
  return (
    <>
      <div class="recommend-head">
        <div>
          <h2>{headline(open.length, all.length)}</h2>
          <p class="dim">
            {list.days > 0
              ? `Seen from ${list.since} to ${list.until}, ${count(list.days)} ${list.days === 1 ? 'day' : 'days'}. ${open.length > 0 ? `${count(stable)} of them ${stable === 1 ? 'is' : 'are'} stable. ` : ''}Policies are staged: they deny nothing until you say so.`
              : 'Nothing was seen in this time.'}
          </p>
        </div>
        <div class="toolbar">
          <input
            type="search"
            placeholder="Find a workload"
            aria-label="find a workload"
            value={text}
            onInput={(event) => {
              find(event.currentTarget.value);
              mark(-1);
            }}
          />
          <MinDays />
          <label class="tick">
            <input
              type="checkbox"
              checked={showsAll.value}
              onChange={(event) => set({ show: event.currentTarget.checked ? 'all' : undefined }, true)}
            />
            With policies too ({count(all.length - open.length)})
          </label>
          <button type="button" onClick={retry} disabled={answer.isAsking}>
            {answer.isAsking ? 'Asking …' : 'Ask again'}
          </button>
        </div>
      </div>
      {list.warnings.length > 0 && (
        <ul class="notes">
          {list.warnings.map((warning) => (
            <li key={warning}>{shown(warning, 500)}</li>
          ))}
        </ul>
      )}
      {rows.length === 0 ? (
        <Nothing all={all.length} text={text} days={list.days} />
      ) : (
        <Table
          label="workloads"
          columns={COLUMNS}
          total={rows.length}
          rowHeight={36}
          keyOf={(n) => `${rows[n]?.workload} ${rows[n]?.kind}`}
          cells={(n) => cellsOf(rows[n] as RecommendListRow)}
          active={at}
          onRow={(n) => go(detailHref(rows[n] as RecommendListRow))}
        />
      )}
    </>
  );
}

/** What was seen on fewer days is left out. */
export function MinDays() {
  return (
    <label class="min-days" title="what was seen on fewer days is left out">
      on at least
      <input
        type="number"
        min={MIN_DAYS.least}
        max={MIN_DAYS.most}
        value={minDays.value}
        onChange={(event) => {
          const days = event.currentTarget.valueAsNumber;
          const isGood = Number.isInteger(days) && days >= MIN_DAYS.least && days <= MIN_DAYS.most;
          if (isGood) set({ days: days === MIN_DAYS.usual ? undefined : String(days) }, true);
          else event.currentTarget.value = String(minDays.value);
        }}
      />
      {minDays.value === 1 ? 'day' : 'days'}
    </label>
  );
}

function isOpen({ policies }: RecommendListRow): boolean {
  return policies === 0;
}

/** Stable ones can be acted on, those that get no policy cannot. */
function byNeed(a: RecommendListRow, b: RecommendListRow): number {
  const rank = (row: RecommendListRow) =>
    (isOpen(row) ? 0 : 4) + (row.refused !== undefined ? 2 : row.state === 'stable' ? 0 : 1);
  return rank(a) - rank(b) || (a.workload < b.workload ? -1 : a.workload > b.workload ? 1 : a.kind < b.kind ? -1 : 1);
}

function headline(open: number, all: number): string {
  if (open === 0) return all === 0 ? 'No workload was seen' : 'Every workload has a policy';
  return `${count(open)} ${open === 1 ? 'workload has' : 'workloads have'} no policy`;
}

function cellsOf(row: RecommendListRow) {
  const { workload, kind, days, of, policies, rules, leftOut, misses, refused, reason } = row;
  const slash = workload.indexOf('/');
  const none = refused !== undefined;
  return [
    <a
      key="name"
      href={detailHref(row)}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(detailHref(row));
      }}
    >
      <span class="dim">{shown(workload.slice(0, slash + 1))}</span>
      {shown(workload.slice(slash + 1))}
      <span class="kind">{shown(kind, 40)}</span>
    </a>,
    <StateMark key="state" state={none ? 'none' : row.state} />,
    <Coverage key="days" days={days} of={of} />,
    policies === 0 ? <span class="warn">none</span> : count(policies),
    none ? '–' : count(rules),
    none ? '–' : count(leftOut),
    none ? '–' : misses === 0 ? '0' : <span class="warn">{count(misses)}</span>,
    <span key="why" class="dim" title={shown(refused ?? reason, 500)}>
      {shown(refused ?? reason, 200)}
    </span>,
  ];
}

/** `28 of 30 days`, with a bar. */
export function Coverage({ days, of }: { days: number; of: number }) {
  const share = of === 0 ? 0 : days / of;
  return (
    <span class="coverage">
      <span class="bar-track" aria-hidden="true">
        <span style={{ width: `${Math.round(share * 100)}%` }} />
      </span>
      {days} of {of} days
    </span>
  );
}

function Nothing({ all, text, days }: { all: number; text: string; days: number }) {
  if (text !== '')
    return (
      <Empty title="No workload matches">
        <p>No workload of this list has “{shown(text, 60)}” in its name.</p>
      </Empty>
    );
  if (all > 0)
    return (
      <Empty
        title="There is nothing to recommend"
        actions={
          <button type="button" class="primary" onClick={() => set({ show: 'all' }, true)}>
            Show them all
          </button>
        }
      >
        <p>Each workload that was seen is selected by a policy. What those policies lack is in the recommendations.</p>
      </Empty>
    );
  return (
    <Empty title="Nothing to recommend yet">
      <p>
        {days === 0
          ? 'No workload has sent anything since agents began to look, or none in these namespaces.'
          : 'No workload is in these namespaces. Those of kube-system and the like show when you choose them.'}
      </p>
    </Empty>
  );
}
