/** The frame around all screens: rail, bar, and what is said of the whole. */
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { shown } from '../parts/words.js';
import { session } from '../state/api.js';
import { nodes } from '../state/store.js';
import { wasHiddenMs } from '../state/stream.js';
import { go, href, SCREENS, type Screen, screen } from '../state/url.js';
import { Bar } from './bar.js';
import { Boundary } from './boundary.js';
import { Help, openHelp } from './help.js';
import { useKeys } from './keys.js';
import { NoRight } from './nothing.js';
import { choose, type Theme, theme, THEMES } from './theme.js';

const TITLES: Readonly<Record<Screen, string>> = {
  graph: 'Graph',
  flows: 'Flows',
  policies: 'Policies',
  recommend: 'Recommend',
  status: 'Status',
};

/** @param beside what stands beside the screen, whichever it is */
export function Frame({ children, beside }: { children: ComponentChildren; beside: ComponentChildren }) {
  const now = screen.value;
  const main = useRef<HTMLElement>(null);
  const before = useRef(now);
  const keys = useMemo(
    () => SCREENS.map((to) => ({ keys: `g ${to[0]}`, about: TITLES[to], run: () => go(href(to)) })),
    [],
  );
  useKeys(keys);
  const source = session.value?.source ?? '';
  useEffect(() => {
    document.title = `${TITLES[now]} · ${shown(source, 60)} · egress-agent`;
    // Those who go by keys begin with the new screen, and hear its name.
    if (before.current !== now) main.current?.focus();
    before.current = now;
  }, [now, source]);
  return (
    <div class="frame">
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Rail />
      <Bar />
      <main id="main" data-screen={now} tabIndex={-1} ref={main} aria-labelledby="screen-title">
        <h1 id="screen-title" class="sr-only">
          {TITLES[now]}
        </h1>
        <Boundary key={now}>{hasNoRight() ? <NoRight /> : children}</Boundary>
      </main>
      {beside}
      <WasHidden />
      <Help />
    </div>
  );
}

function hasNoRight(): boolean {
  return session.value?.namespaces?.length === 0;
}

function Rail() {
  const now = screen.value;
  return (
    <nav class="rail" aria-label="screens">
      <svg class="logo" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
        <rect x="3" y="6" width="15" height="20" rx="4" />
        <path d="M11 16h17M23 10.500l5.5 5.5-5.5 5.5" />
      </svg>
      {SCREENS.map((to) => (
        <a
          key={to}
          href={href(to)}
          aria-current={now === to ? 'page' : undefined}
          title={`${TITLES[to]} (g ${to[0]})`}
          onClick={(event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            go(href(to));
          }}
        >
          <Icon path={PATHS[to]} />
          <span>{TITLES[to]}</span>
          {to === 'status' && <TroubleDot />}
        </a>
      ))}
      <span class="grow" />
      <ThemeButton />
      <button type="button" onClick={openHelp} title="keys (?)">
        <Icon path="M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M8 14h8" />
        <span>Keys</span>
      </button>
    </nav>
  );
}

/** Somebody should look at the status. */
function TroubleDot() {
  const count = (nodes.value ?? []).filter((node) => !node.connected || (node.policiesRefused ?? 0) > 0).length;
  if (count === 0) return null;
  return (
    <span class="trouble-dot">
      <span class="sr-only">
        , {count} {count === 1 ? 'node needs' : 'nodes need'} a look
      </span>
    </span>
  );
}

const THEME_PATHS: Readonly<Record<Theme, string>> = {
  auto: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  light:
    'M12 8a4 4 0 1 0 .01 0M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.400M17.6 17.600l1.4 1.400M5 19l1.4-1.400M17.6 6.400l1.4-1.4',
  dark: 'M19 14.500A8 8 0 0 1 9.5 5a8 8 0 1 0 9.5 9.500z',
};

function ThemeButton() {
  const now = theme();
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length] ?? 'auto';
  return (
    <button type="button" onClick={() => choose(next)} title={`colors: ${now}; click for ${next}`}>
      <Icon path={THEME_PATHS[now]} />
      <span>
        <span class="sr-only">colors: </span>
        {now[0]?.toUpperCase()}
        {now.slice(1)}
      </span>
    </button>
  );
}

/** A hidden tab hears nothing. When it is shown again, it says so for a while. */
function WasHidden() {
  const ms = wasHiddenMs.value;
  useEffect(() => {
    if (ms === 0) return;
    const timer = setTimeout(() => (wasHiddenMs.value = 0), SAID_MS);
    return () => clearTimeout(timer);
  }, [ms]);
  return (
    <div class="notice" role="status">
      {ms > 0 && (
        <p>
          This tab was hidden for {wordsOf(ms)} and asked for nothing. It shows what is there now.
          <button type="button" class="quiet" onClick={() => void (wasHiddenMs.value = 0)}>
            OK
          </button>
        </p>
      )}
    </div>
  );
}

const SAID_MS = 8000;

function wordsOf(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (ms < 90_000) return `${Math.max(1, Math.round(ms / 1000))} s`;
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

const PATHS: Readonly<Record<Screen, string>> = {
  graph:
    'M3.5 9.500h6v5h-6zM15 4h5.500v5H15zM15 15h5.500v5H15zM9.5 12h2.500M15 6.500h-1.500q-1.5 0-1.5 1.500v8q0 1.5 1.5 1.500H15',
  flows: 'M4 6h12M4 12h16M4 18h9M18.5 4l2 2-2 2',
  policies: 'M4 4h4.500v16H4zM11 4h4v11h-4zM17.5 4H21v7h-3.500z',
  recommend: 'M5 4h14v16H5zM8.5 12l2.5 2.5 4.5-5',
  status: 'M3 13h4l3-8 4 14 3-6h4',
};

function Icon({ path }: { path: string }) {
  return (
    <svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">
      <path
        d={path}
        fill="none"
        stroke="currentColor"
        stroke-width="1.6"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
