/** The frame around all screens: rail, bar, and what is said of the whole. */
import { useMemo } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { go, href, SCREENS, type Screen, screen } from '../state/url.js';
import { Bar } from './bar.js';
import { Help } from './help.js';
import { useKeys } from './keys.js';

const TITLES: Readonly<Record<Screen, string>> = {
  graph: 'Graph',
  flows: 'Flows',
  policies: 'Policies',
  recommend: 'Recommend',
  status: 'Status',
};

export function Frame({ children }: { children: ComponentChildren }) {
  const keys = useMemo(
    () => SCREENS.map((to) => ({ keys: `g ${to[0]}`, about: `go to ${TITLES[to]}`, run: () => go(href(to)) })),
    [],
  );
  useKeys(keys);
  return (
    <div class="frame">
      <a class="skip" href="#main">
        skip to the content
      </a>
      <nav class="rail" aria-label="Screens">
        {SCREENS.map((to) => (
          <a
            key={to}
            href={href(to)}
            aria-current={screen.value === to ? 'page' : undefined}
            onClick={(event) => {
              if (event.ctrlKey || event.metaKey || event.shiftKey) return;
              event.preventDefault();
              go(href(to));
            }}
          >
            <Icon name={to} />
            <span>{TITLES[to]}</span>
          </a>
        ))}
      </nav>
      <Bar />
      <main id="main" tabIndex={-1}>
        {children}
      </main>
      <Help />
    </div>
  );
}

const PATHS: Readonly<Record<Screen, string>> = {
  graph: 'M4 6h5v4H4zM15 4h5v4h-5zM15 16h5v4h-5zM9 8h3M12 8l3-2M12 8v10h3',
  flows: 'M4 6h16M4 12h10M4 18h13',
  policies: 'M4 4h4v16H4zM10 4h4v11h-4zM16 4h4v7h-4z',
  recommend: 'M5 12l4 4 10-10M5 20h14',
  status: 'M3 13h4l3-8 4 14 3-6h4',
};

function Icon({ name }: { name: Screen }) {
  return (
    <svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">
      <path d={PATHS[name]} fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" />
    </svg>
  );
}
