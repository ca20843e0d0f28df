/** Above the drawing: where we are, and what is hidden. And what is said if there is nothing to draw. */
import { chipText } from '../../src/ui/wire/chips.js';
import { type Level, levelText, outOf } from '../../src/ui/graph/levels.js';
import { hasNoAgents, NoAgents, NoRight } from '../frame/nothing.js';
import { Empty } from '../parts/empty.js';
import { count, shown } from '../parts/words.js';
import { session } from '../state/api.js';
import { edges, edgesHead } from '../state/store.js';
import { streamState } from '../state/stream.js';
import { chips, dropChip, namespaces, set, window_ } from '../state/url.js';
import { goTo, isTable, levelHref, QUIET, type Quiet, showQuiet, unhidden } from './address.js';
import type { Live } from './live.js';

/** A link to a level, for mouse and keys alike. */
export function LevelLink({ to, children }: { to: Level; children: string }) {
  return (
    <a
      href={levelHref(to)}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        goTo(to);
      }}
    >
      {children}
    </a>
  );
}

function nameOf(level: Level): string {
  if (level.kind === 'cluster') return 'Cluster';
  return shown(level.kind === 'namespace' ? level.namespace : level.name, 80);
}

export function Head({ live }: { live: Live }) {
  live.tick.value;
  const path: Level[] = [];
  for (let at: Level | undefined = live.level; at; at = outOf(at)) path.unshift(at);
  return (
    <div class="graph-head">
      <nav aria-label="level">
        <ol class="crumbs">
          {path.map((at, n) => (
            <li key={levelText(at)}>
              {n === path.length - 1 ? <h1>{nameOf(at)}</h1> : <LevelLink to={at}>{nameOf(at)}</LevelLink>}
            </li>
          ))}
        </ol>
      </nav>
      {(Object.keys(QUIET) as Quiet[]).map((which) => (
        <QuietChip key={which} which={which} live={live} />
      ))}
      <span class="grow" />
      <button
        type="button"
        aria-pressed={isTable.value}
        title="the same as a table (t)"
        onClick={() => set({ view: isTable.value ? undefined : 'table' })}
      >
        Table
      </button>
    </div>
  );
}

/** Says what is hidden by itself, and shows it when it is dropped. */
function QuietChip({ which, live }: { which: Quiet; live: Live }) {
  if (unhidden.value.has(which))
    return (
      <button type="button" class="hides off" onClick={() => showQuiet(which, false)} title="click to hide it">
        {QUIET[which]} shown
      </button>
    );
  const { edges: all, denied } = live.graph.hidden[which];
  return (
    <button type="button" class="hides" onClick={() => showQuiet(which, true)} title="click to show it">
      {QUIET[which]} hidden{all > 0 && <span class="dim"> {count(all)}</span>}
      {denied > 0 && <span class="verdict denied"> ✕ {count(denied)} denied</span>} <span aria-hidden="true">×</span>
    </button>
  );
}

/** In the middle of an empty drawing. */
export function Nothing({ live }: { live: Live }) {
  live.tick.value;
  if (live.graph.nodes.size > 0) return null;
  return (
    <div class="nothing" role="status">
      <Why live={live} />
    </div>
  );
}

function Why({ live }: { live: Live }) {
  const { caughtUp, beganMs } = edgesHead.value;
  if (session.value?.namespaces?.length === 0) return <NoRight />;
  if (hasNoAgents()) return <NoAgents />;
  if (edges.size > 0) return <NoMatch live={live} />;
  if (!caughtUp || streamState.value !== 'live') return <p>{STATES[streamState.value]}</p>;
  return (
    <Empty
      title="No connections yet"
      actions={
        <>
          {window_.value !== '35d' && (
            <button type="button" onClick={() => set({ w: '35d' })}>
              Look at 35 days
            </button>
          )}
          {namespaces.value.length > 0 && (
            <button type="button" onClick={() => set({ ns: undefined })}>
              All namespaces
            </button>
          )}
        </>
      }
    >
      <p>
        {beganMs ? `Agents have counted since ${new Date(beganMs).toLocaleString()}.` : 'Agents have begun to count.'}
      </p>
    </Empty>
  );
}

const STATES = {
  connecting: 'Connecting …',
  live: 'Connecting …',
  paused: 'Paused, until this tab is seen.',
  lost: 'There is no connection; it is tried again.',
} as const;

function NoMatch({ live }: { live: Live }) {
  const { hidden } = live.graph;
  const all = hidden.dns.edges + hidden.system.edges + hidden.filter.edges;
  return (
    <Empty
      title={all > 0 ? 'All of it is hidden' : 'Nothing was seen here'}
      actions={
        <>
          {hidden.filter.edges > 0 &&
            chips.value.map((chip) => (
              <button type="button" key={chipText(chip)} onClick={() => dropChip(chip)}>
                Drop {shown(chipText(chip), 60)}
              </button>
            ))}
          {(Object.keys(QUIET) as Quiet[]).map(
            (which) =>
              hidden[which].edges > 0 && (
                <button type="button" key={which} onClick={() => showQuiet(which, true)}>
                  Show {QUIET[which]}
                </button>
              ),
          )}
          {live.level.kind !== 'cluster' && (
            <button type="button" onClick={() => goTo({ kind: 'cluster' })}>
              The whole cluster
            </button>
          )}
        </>
      }
    >
      {all > 0 && <p>Filters leave {count(all)} edges out.</p>}
    </Empty>
  );
}
