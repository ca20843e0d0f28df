/** In words: nodes that do not answer, what is lost, whether the page hears of news. */
import { useEffect, useState } from 'preact/hooks';
import type { NodeBrief } from '../../src/ui/wire/messages.js';
import { Popup } from '../parts/overlay.js';
import { count, shown } from '../parts/words.js';
import { edgesHead, nodes, troubles } from '../state/store.js';
import { retryAtMs, retryNow, streamError, streamState } from '../state/stream.js';
import { go, href } from '../state/url.js';

/** Lines of a list in a popup. */
const LISTED = 12;

export function Health() {
  return (
    <div class="health">
      <Losses />
      <Nodes />
      <Connection />
    </div>
  );
}

function Connection() {
  const state = streamState.value;
  const retry = retryAtMs.value;
  const [now, tick] = useState(Date.now());
  useEffect(() => {
    if (retry === 0) return;
    tick(Date.now());
    const timer = setInterval(() => tick(Date.now()), 500);
    return () => clearInterval(timer);
  }, [retry]);
  if (state === 'lost') {
    const seconds = Math.max(1, Math.ceil((retry - now) / 1000));
    return (
      <>
        <span class="sr-only" role="status">
          no connection
        </span>
        <button type="button" class="pill bad connection" onClick={retryNow} title={shown(streamError.value, 300)}>
          {retry > 0 ? `no connection: reconnecting in ${seconds} s` : shown(streamError.value || 'no connection', 80)}
        </button>
      </>
    );
  }
  const words = { live: 'live', connecting: 'connecting …', paused: 'paused' }[state];
  return (
    <span class={`pill connection ${state}`} role="status" title="whether this page hears of what happens">
      <span class="dot" aria-hidden="true" />
      {words}
    </span>
  );
}

function Nodes() {
  const all = nodes.value;
  if (!all) return null;
  const silent = all.filter((node) => !node.connected);
  const answering = all.length - silent.length;
  const told = all.flatMap((node) => node.flowsPerSecond ?? []);
  const text = `${count(answering)}/${count(all.length)} ${all.length === 1 ? 'node' : 'nodes'}`;
  return (
    <Popup right class={`pill${silent.length > 0 ? ' bad' : ''}`} label={`${text} answer`} button={text}>
      {(close) => (
        <div class="panel-body">
          <h2>
            {answering} of {all.length} {all.length === 1 ? 'node answers' : 'nodes answer'}
          </h2>
          {told.length > 0 && (
            <p class="dim">{count(Math.round(told.reduce((sum, n) => sum + n, 0)))} flows a second</p>
          )}
          {silent.length > 0 && (
            <ul class="plain-list">
              {silent.slice(0, LISTED).map((node) => (
                <Silent key={node.name} node={node} close={close} />
              ))}
              {silent.length > LISTED && <li class="dim">and {count(silent.length - LISTED)} more</li>}
            </ul>
          )}
          <ScreenLink to={href('status')} close={close}>
            All nodes
          </ScreenLink>
        </div>
      )}
    </Popup>
  );
}

function Silent({ node, close }: { node: NodeBrief; close: () => void }) {
  return (
    <li>
      <ScreenLink to={href('status', { node: node.name })} close={close}>
        {shown(node.name, 80)}
      </ScreenLink>
      <div class="dim">{shown(node.message || 'does not answer', 300)}</div>
    </li>
  );
}

function ScreenLink({ to, close, children }: { to: string; close: () => void; children: string }) {
  return (
    <a
      href={to}
      onClick={(event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        close();
        go(to);
      }}
    >
      {children}
    </a>
  );
}

interface Loss {
  /** In the bar. */
  readonly short: string;
  readonly about: string;
}

function losses(): Loss[] {
  const { overflow, more, unavailable } = edgesHead.value;
  const all = nodes.value ?? [];
  const losing = all.map(({ name, lost = 0 }) => ({ name, lost })).filter((node) => node.lost > 0);
  const lost = losing.reduce((sum, node) => sum + node.lost, 0);
  const worst = losing.sort((a, b) => b.lost - a.lost);
  const named = worst.slice(0, 3).map((node) => `${shown(node.name, 60)} ${count(node.lost)}`);
  const out: Loss[] = Object.entries(troubles.value).map(([about, message]) => ({
    short: `no news of ${about}`,
    about: `The source does not tell of ${about} now; what you see is from before. ${shown(message, 300)}`,
  }));
  if (lost > 0)
    out.push({
      short: `${count(lost)} events lost`,
      about: `Since the agents began, ${count(lost)} events found no room between the kernel and a reader (${named.join(', ')}). Verdicts were enforced all the same; flows, and numbers of edges, miss them.`,
    });
  if (overflow > 0)
    out.push({
      short: `${count(overflow)} flows not told apart`,
      about: `${count(overflow)} flows found no edge of their own, since the ledger of their node is full. They are shown as “other”.`,
    });
  if (more)
    out.push({
      short: 'oldest edges left out',
      about:
        'There are more edges than a page can show: the oldest are left out. Choose namespaces, or a shorter time.',
    });
  if (unavailable.length > 0)
    out.push({
      short: `${count(unavailable.length)} without edges`,
      about: `Edges of these nodes are missing: ${unavailable
        .slice(0, LISTED)
        .map((name) => shown(name, 60))
        .join(', ')}${unavailable.length > LISTED ? ' …' : ''}`,
    });
  return out;
}

function Losses() {
  const all = losses();
  const [first] = all;
  if (!first) return null;
  const text = all.length === 1 ? first.short : `${first.short} +${all.length - 1}`;
  return (
    <Popup right class="pill warn" label={`incomplete: ${text}`} button={text}>
      {() => (
        <div class="panel-body">
          <h2>What you see is not all</h2>
          <ul class="plain-list">
            {all.map(({ short, about }) => (
              <li key={short}>{about}</li>
            ))}
          </ul>
        </div>
      )}
    </Popup>
  );
}
