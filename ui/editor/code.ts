/**
 * The text field of the editor: CodeMirror, in a shadow root. Its styles are constructed there, so that the page's
 * content policy holds; none of them loads an image.
 */
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import {
  bracketMatching,
  foldGutter,
  foldKeymap,
  HighlightStyle,
  indentUnit,
  syntaxHighlighting,
} from '@codemirror/language';
import { type Diagnostic, lintKeymap, setDiagnostics } from '@codemirror/lint';
import { unifiedMergeView } from '@codemirror/merge';
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search';
import { Compartment, EditorState } from '@codemirror/state';
import {
  crosshairCursor,
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  keymap,
  lineNumbers,
  rectangularSelection,
} from '@codemirror/view';
import { tags } from '@lezer/highlight';
import type { TextProblem } from '../../src/ui/wire/policies.js';
import { shown } from '../parts/words.js';
import { completeFields } from './fields.js';
import { THEME } from './theme.js';

/** What the editor does with the field. */
export interface Code {
  text(): string;
  /** Another text; it can be undone. */
  replace(text: string): void;
  /** Underlines problems. Those without a place are not shown here. */
  mark(problems: readonly TextProblem[]): void;
  /** Shows what differs from a text, or no more. */
  compare(original: string | undefined): void;
  /** Puts the cursor there, in sight. */
  reveal(offset: number): void;
  focus(): void;
  destroy(): void;
}

export interface CodeOptions {
  readonly text: string;
  readonly onChange: (text: string) => void;
  /** Escape, where it closes nothing in the field. */
  readonly onEscape: () => void;
}

const HIGHLIGHT = HighlightStyle.define([
  { tag: [tags.definition(tags.propertyName), tags.propertyName], color: 'var(--code-key)' },
  { tag: [tags.string, tags.special(tags.string), tags.content], color: 'var(--code-value)' },
  { tag: [tags.number, tags.bool, tags.null, tags.keyword], color: 'var(--code-value)' },
  { tag: [tags.comment, tags.lineComment], color: 'var(--dim)', fontStyle: 'italic' },
  { tag: [tags.meta, tags.typeName, tags.labelName], color: 'var(--partial)' },
  { tag: [tags.punctuation, tags.separator], color: 'var(--dim)' },
]);

/** Longer texts are not compared: it would hold up typing. */
const MOST_COMPARED = 200_000;

/**
 * What is typed over a selection. Chromium itself would put it into an element with a style of its own, which the page's
 * content policy refuses, and reports.
 */
const REPLACING = EditorView.domEventHandlers({
  beforeinput: (event, view) => {
    if (event.inputType !== 'insertText' || event.data === null) return false;
    if (view.composing || view.state.selection.main.empty) return false;
    event.preventDefault();
    view.dispatch(view.state.replaceSelection(event.data), { userEvent: 'input.type', scrollIntoView: true });
    return true;
  },
});

/** Makes the field. @param host an element without a shadow root */
export function mountCode(host: HTMLElement, { text, onChange, onEscape }: CodeOptions): Code {
  const root = host.shadowRoot ?? host.attachShadow({ mode: 'open' });
  const parent = document.createElement('div');
  parent.className = 'parent';
  root.replaceChildren(parent);
  const comparing = new Compartment();
  const leaveField = () => {
    onEscape();
    return true;
  };
  const state = EditorState.create({
    doc: text,
    extensions: [
      lineNumbers(),
      foldGutter(),
      history(),
      drawSelection(),
      rectangularSelection(),
      crosshairCursor(),
      bracketMatching(),
      closeBrackets(),
      highlightActiveLine(),
      highlightActiveLineGutter(),
      highlightSelectionMatches(),
      search({ top: true }),
      autocompletion({ override: [completeFields] }),
      yaml(),
      indentUnit.of('  '),
      syntaxHighlighting(HIGHLIGHT),
      THEME,
      EditorState.tabSize.of(2),
      REPLACING,
      EditorView.contentAttributes.of({ 'aria-label': 'YAML of the policy', spellcheck: 'false' }),
      // Tab leads on, as everywhere: nobody is caught in the field.
      keymap.of([
        ...closeBracketsKeymap,
        ...defaultKeymap,
        ...searchKeymap,
        ...historyKeymap,
        ...foldKeymap,
        ...completionKeymap,
        ...lintKeymap,
        { key: 'Escape', run: leaveField },
      ]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) onChange(update.state.doc.toString());
      }),
      comparing.of([]),
    ],
  });
  const view = new EditorView({ state, root, parent });
  // Keys of the page are not meant while one types here.
  const quiet = (event: KeyboardEvent) => event.stopPropagation();
  host.addEventListener('keydown', quiet);
  return {
    text: () => view.state.doc.toString(),
    replace: (next) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next } }),
    mark: (problems) => {
      const most = view.state.doc.length;
      view.dispatch(
        setDiagnostics(
          view.state,
          problems.flatMap((p) => diagnosticOf(p, most)),
        ),
      );
    },
    compare: (original) => {
      const isShort = original !== undefined && original.length + view.state.doc.length < MOST_COMPARED;
      const merge = isShort ? unifiedMergeView({ original, mergeControls: false, gutter: true }) : [];
      view.dispatch({ effects: comparing.reconfigure(merge) });
    },
    reveal: (offset) => {
      const at = Math.min(offset, view.state.doc.length);
      view.dispatch({ selection: { anchor: at }, effects: EditorView.scrollIntoView(at, { y: 'center' }) });
      view.focus();
    },
    focus: () => view.focus(),
    destroy: () => {
      host.removeEventListener('keydown', quiet);
      view.destroy();
    },
  };
}

function diagnosticOf({ from, to, severity, field, message, hint }: TextProblem, most: number): Diagnostic[] {
  // The text may have been shortened since it was judged.
  if (from === undefined || to === undefined || from > most) return [];
  const text = `${field === '' ? '' : `${field}: `}${message}${hint === '' ? '' : ` — ${hint}`}`;
  return [
    {
      from,
      to: Math.min(Math.max(to, from + 1), most),
      severity: severity === 'error' ? 'error' : 'warning',
      message: shown(text, 800),
    },
  ];
}
