/** Above the drawing: where we are, and what is hidden. And what is said if there is nothing to draw. */
import { chipText } from '../../src/ui/wire/chips.js';
import { type Level, levelText, outOf } from '../../src/ui/graph/levels.js';
import { count, shown } from '../parts/words.js';
import { edges, edgesHead, nodes } from '../state/store.js';
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
      <button type="button" class="chip quiet" onClick={() => showQuiet(which, false)} title="click to hide it">
        {QUIET[which]} shown
      </button>
    );
  const { edges: all, denied } = live.graph.hidden[which];
  return (
    <button type="button" class="chip" onClick={() => showQuiet(which, true)} title="click to show it">
      {QUIET[which]} hidden{all > 0 && <span class="dim"> {count(all)}</span>}
      {denied > 0 && <span class="verdict denied"> ✕ {count(denied)} denied</span>} <span aria-hidden="true">×</span>
    </button>
  );
}

/** In the middle of an empty drawing. */
export function Nothing({ live }: { live: Live }) {
  live.tick.value;
  const { caughtUp, beganMs } = edgesHead.value;
  if (live.graph.nodes.size > 0) return null;
  if (!caughtUp || (streamState.value !== 'live' && edges.size === 0))
    return (
      <p class="nothing" role="status">
        {streamState.value === 'paused'
          ? 'Paused.'
          : streamState.value === 'lost'
            ? 'No connection; it is tried again.'
            : 'Connecting…'}
      </p>
    );
  if (edges.size > 0) return <NoMatch live={live} />;
  if (nodes.value && !nodes.value.some((n) => n.connected))
    return (
      <div class="nothing" role="status">
        <h2>No agent answers</h2>
        <p>This shows why:</p>
        <code>{nodes.value.length === 0 ? 'kubectl apply -k daemonset/base' : 'egressctl status'}</code>
      </div>
    );
  return (
    <div class="nothing" role="status">
      <h2>No connections yet</h2>
      <p>
        {beganMs ? `Agents have counted since ${new Date(beganMs).toLocaleString()}.` : 'Agents have begun to count.'}
      </p>
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
    </div>
  );
}

function NoMatch({ live }: { live: Live }) {
  const { hidden } = live.graph;
  return (
    <div class="nothing" role="status">
      <h2>Nothing of it is shown</h2>
      <p>{count(hidden.dns.edges + hidden.system.edges + hidden.filter.edges)} edges are left out here.</p>
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
    </div>
  );
}
