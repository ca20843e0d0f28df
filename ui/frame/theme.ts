/** Light or dark: as the address says, else as was chosen here before, else as the system has it. */
import { effect, signal } from '@preact/signals';
import { param, set } from '../state/url.js';

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'egress-theme';

function themeOf(text: string | null): Theme | undefined {
  return THEMES.find((theme) => theme === text);
}

/** Browsers may refuse storage altogether. */
function stored(): Theme {
  try {
    return themeOf(localStorage.getItem(KEY)) ?? 'auto';
  } catch {
    return 'auto';
  }
}

const chosen = signal<Theme>(stored());

export function theme(): Theme {
  return themeOf(param('theme')) ?? chosen.value;
}

/** Chooses, for this browser. An address that says otherwise stops to. */
export function choose(next: Theme): void {
  chosen.value = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // It counts until the page is left.
  }
  if (param('theme') !== null) set({ theme: undefined }, true);
}

/** Colors the page. Call it once. */
export function paint(): void {
  effect(() => {
    const now = theme();
    if (now === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = now;
  });
}
