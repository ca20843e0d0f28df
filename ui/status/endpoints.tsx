/** The pods of a node with their hooks. */
import { useMemo, useState } from 'preact/hooks';
import type { StatusResponse } from '../../src/proto/status.js';
import { Table } from '../parts/table.js';
import { count, shown } from '../parts/words.js';
import { param, set } from '../state/url.js';
import { num } from './words.js';

type Endpoint = NonNullable<StatusResponse['endpoints']>[number];

const COLUMNS = [
  { title: 'Endpoint', width: '28%' },
  { title: 'State', width: '110px' },
  { title: 'Policies', width: '84px', isNumber: true },
  { title: 'Flows', width: '84px', isNumber: true },
  { title: 'Names', width: '76px', isNumber: true, isExtra: true },
  { title: 'Lost', width: '76px', isNumber: true },
  { title: 'Interface', width: '150px', isExtra: true },
  { title: 'Hooks' },
] as const;

/** @param share flows that each may have in any case; 0: it is not known */
export function Endpoints({ list, share }: { list: readonly Endpoint[]; share: number }) {
  const [at, mark] = useState(-1);
  const text = param('pods') ?? '';
  const rows = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    const found = list.filter(({ pod, state, interface: name }) =>
      `${pod} ${state} ${name}`.toLowerCase().includes(wanted),
    );
    return found.sort((a, b) => rank(a) - rank(b) || (a.pod < b.pod ? -1 : 1));
  }, [list, text]);
  const pods = list.filter(({ pod }) => !pod.startsWith('node/'));
  const selected = pods.filter(({ state }) => state === 'enforced').length;
  return (
    <section class="endpoints">
      <div class="evidence-head">
        <h3>
          Endpoints: {count(selected)} of {count(pods.length)} pods selected by policies
        </h3>
        <input
          type="search"
          placeholder="Find a pod or a state"
          aria-label="find a pod or a state"
          value={text}
          onInput={(event) => {
            mark(-1);
            set({ pods: event.currentTarget.value.slice(0, 200) || undefined }, true);
          }}
        />
      </div>
      {rows.length === 0 ? (
        <p class="dim none">{list.length === 0 ? 'No pod of this node has a hook.' : 'No endpoint matches.'}</p>
      ) : (
        <Table
          class="card"
          label="endpoints"
          columns={COLUMNS}
          total={rows.length}
          keyOf={(n) => `${rows[n]?.pod} ${rows[n]?.ifindex}`}
          cells={(n) => cellsOf(rows[n] as Endpoint, share)}
          active={at}
        />
      )}
    </section>
  );
}

function rank({ state, lost_events }: Endpoint): number {
  return state === 'missing' ? 0 : num(lost_events) > 0 ? 1 : 2;
}

function cellsOf(e: Endpoint, share: number) {
  const [flows, lost] = [e.flows ?? 0, num(e.lost_events)];
  const isOver = share > 0 && flows > share;
  return [
    shown(e.pod),
    <span key="state" class={e.state === 'missing' ? 'bad' : e.state === 'enforced' ? '' : 'dim'}>
      {shown(e.state, 40)}
    </span>,
    count(e.policies ?? 0),
    <span key="flows" class={isOver ? 'warn' : ''} title={isOver ? `beyond its share of ${count(share)}` : undefined}>
      {count(flows)}
    </span>,
    count(e.names ?? 0),
    <span key="lost" class={lost > 0 ? 'warn' : ''}>
      {count(lost)}
    </span>,
    shown(e.interface, 60),
    shown((e.hooks ?? []).join(', '), 200),
  ];
}
