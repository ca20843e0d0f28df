/** Stable, learning, or no policy at all: a word and a glyph each. */

const STATES = {
  stable: { glyph: '●', word: 'Stable', class: 'allowed' },
  learning: { glyph: '◔', word: 'Learning', class: 'would-deny' },
  none: { glyph: '–', word: 'No policy', class: 'no-policy' },
} as const;

export function StateMark({ state }: { state: keyof typeof STATES }) {
  const { glyph, word, class: color } = STATES[state];
  return (
    <span class={`state-mark verdict ${color}`}>
      <span aria-hidden="true">{glyph}</span> {word}
    </span>
  );
}
