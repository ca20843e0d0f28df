/** How the text field looks: in the page's colors, which a shadow root inherits. No image: the content policy forbids data. */
import { EditorView } from '@codemirror/view';

const wavy = (color: string) => ({
  backgroundImage: 'none',
  textDecoration: `underline wavy ${color}`,
  textDecorationSkipInk: 'none',
  textUnderlineOffset: '3px',
});

const button = {
  backgroundImage: 'none',
  background: 'var(--raised)',
  color: 'inherit',
  border: '1px solid var(--line)',
  borderRadius: '6px',
  padding: '2px 8px',
  font: 'inherit',
};

export const THEME = EditorView.theme({
  '&': { height: '100%', color: 'var(--text)', backgroundColor: 'var(--raised)', fontSize: '13px' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.55' },
  '.cm-content': { caretColor: 'var(--text)', padding: '10px 0' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-gutters': { backgroundColor: 'var(--raised)', color: 'var(--dim)', border: 'none' },
  '.cm-lineNumbers .cm-gutterElement': { padding: '0 6px 0 14px', minWidth: '34px' },
  '.cm-activeLine': { backgroundColor: 'color-mix(in srgb, var(--hover) 55%, transparent)' },
  '.cm-activeLineGutter': { backgroundColor: 'transparent', color: 'var(--text)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground, ::selection': {
    backgroundColor: 'color-mix(in srgb, var(--accent) 28%, transparent)',
  },
  '.cm-selectionMatch': { backgroundColor: 'color-mix(in srgb, var(--accent) 16%, transparent)' },
  '.cm-searchMatch': { backgroundColor: 'color-mix(in srgb, var(--would-deny) 30%, transparent)' },
  '.cm-searchMatch-selected': { backgroundColor: 'color-mix(in srgb, var(--would-deny) 60%, transparent)' },
  '&.cm-focused .cm-matchingBracket': { backgroundColor: 'color-mix(in srgb, var(--accent) 22%, transparent)' },
  '.cm-foldPlaceholder': { background: 'var(--sunken)', border: '1px solid var(--line)', color: 'var(--dim)' },
  '.cm-panels': { backgroundColor: 'var(--sunken)', color: 'inherit', font: '13px system-ui, sans-serif' },
  '.cm-panels.cm-panels-top': { borderBottom: '1px solid var(--line)' },
  '.cm-textfield': { ...button, backgroundColor: 'var(--raised)' },
  '.cm-button': button,
  '.cm-button:active': { backgroundImage: 'none', background: 'var(--hover)' },
  '.cm-panel.cm-search [name=close]': { color: 'inherit', fontSize: '18px' },
  '.cm-lintRange-error': wavy('var(--denied)'),
  '.cm-lintRange-warning': wavy('var(--would-deny)'),
  '.cm-lintRange-active': { backgroundColor: 'color-mix(in srgb, var(--denied) 18%, transparent)' },
  '.cm-tooltip': {
    backgroundColor: 'var(--raised)',
    color: 'var(--text)',
    border: '1px solid var(--line)',
    borderRadius: '6px',
    maxWidth: '520px',
    font: '13px system-ui, sans-serif',
  },
  '.cm-diagnostic': { padding: '5px 9px', overflowWrap: 'anywhere' },
  '.cm-diagnostic-error': { borderLeft: '4px solid var(--denied)' },
  '.cm-diagnostic-warning': { borderLeft: '4px solid var(--would-deny)' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]': {
    backgroundColor: 'var(--accent)',
    color: 'var(--on-accent)',
  },
  '.cm-tooltip-autocomplete .cm-completionDetail': { color: 'inherit', fontStyle: 'normal', opacity: '0.85' },
  // What was added and taken away: a line at the left, and a sign, beside the color.
  '&.cm-merge-b .cm-changedLine, &.cm-merge-b .cm-inlineChangedLine': {
    backgroundColor: 'color-mix(in srgb, var(--allowed) 10%, transparent)',
  },
  '&.cm-merge-b .cm-changedText': {
    backgroundImage: 'none',
    background: 'color-mix(in srgb, var(--allowed) 24%, transparent)',
  },
  '&.cm-merge-b .cm-deletedChunk': {
    backgroundColor: 'color-mix(in srgb, var(--denied) 10%, transparent)',
    textDecoration: 'line-through',
    textDecorationColor: 'color-mix(in srgb, var(--denied) 60%, transparent)',
  },
  '&.cm-merge-b .cm-deletedChunk .cm-deletedText': {
    backgroundImage: 'none',
    background: 'color-mix(in srgb, var(--denied) 22%, transparent)',
  },
  '&.cm-merge-b .cm-changedLineGutter': { background: 'var(--allowed)' },
  '&.cm-merge-b .cm-deletedLineGutter, .cm-deletedLineGutter': { background: 'var(--denied)' },
});
