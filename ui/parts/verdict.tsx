/** Verdicts: a color, a glyph and a line each, so that none depends on colors alone. */
import type { Verdict } from '../../src/ui/wire/messages.js';

/** What is shown of a verdict and the audit verdict. */
export type Shown = 'allowed' | 'denied' | 'would-deny' | 'partial' | 'no-policy';

export const GLYPHS: Readonly<Record<Shown, string>> = {
  allowed: '✓',
  denied: '✕',
  'would-deny': '◐',
  partial: '?',
  'no-policy': '–',
};

export const WORDS: Readonly<Record<Shown, string>> = {
  allowed: 'allowed',
  denied: 'denied',
  'would-deny': 'allowed; a staged policy would deny it',
  partial: 'judged behind a Service',
  'no-policy': 'no policy',
};

/** @param reason `no-policy`: no rule has decided */
export function shownVerdict(verdict: Verdict, audit: Verdict, reason: string): Shown {
  if (verdict === 'deny') return 'denied';
  if (audit === 'deny') return 'would-deny';
  if (verdict === 'partial') return 'partial';
  return verdict === 'none' || reason === 'no-policy' ? 'no-policy' : 'allowed';
}

/** The glyph with its word for those who do not see it. */
export function VerdictMark({ shown, word = false }: { shown: Shown; word?: boolean }) {
  return (
    <span class={`verdict ${shown}`} title={WORDS[shown]}>
      <span aria-hidden="true">{GLYPHS[shown]}</span>
      {word ? <span class="word"> {shown}</span> : <span class="sr-only">{WORDS[shown]}</span>}
    </span>
  );
}
