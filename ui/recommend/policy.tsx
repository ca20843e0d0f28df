/** The policy as text, and what it would do to what was seen. */
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { EdgeChange } from '../../src/recommend/base/types.js';
import type { RecommendationAnswer } from '../../src/ui/wire/recommend.js';
import { count, shown } from '../parts/words.js';
import { marked } from './state.js';

/** Lines that are drawn; all of them are copied. */
const MOST_LINES = 3000;

interface Line {
  readonly text: string;
  /** Of a comment the whole line; else what is before the value. */
  readonly key: string;
  readonly isComment: boolean;
}

function linesOf(text: string): readonly Line[] {
  return text
    .trimEnd()
    .split('\n')
    .slice(0, MOST_LINES)
    .map((raw) => {
      const line = shown(raw, 2000);
      const isComment = /^\s*#/.test(line);
      const key = isComment ? line : (/^[\s-]*[\w./:-]+:(?=\s|$)/.exec(line)?.[0] ?? '');
      return { text: line, key, isComment };
    });
}

/** Lines that are about the marked evidence are lit. */
export function Yaml({ text }: { text: string }) {
  const lines = useMemo(() => linesOf(text), [text]);
  const box = useRef<HTMLElement>(null);
  const wanted = marked.value;
  const isLit = (line: Line) =>
    wanted !== '' && line.isComment && line.text.trimStart().startsWith(`# ${shown(wanted)},`);
  useEffect(() => {
    box.current?.querySelector('.lit')?.scrollIntoView({ block: 'nearest' });
  }, [wanted]);
  const cut = text.trimEnd().split('\n').length - lines.length;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
    <section class="policy-text" ref={box} tabIndex={0} aria-label="the policy">
      <pre>
        {lines.map((line, n) => (
          <span key={n} class={`line${line.isComment ? ' comment' : ''}${isLit(line) ? ' lit' : ''}`}>
            <span class="yaml-key">{line.key}</span>
            {line.isComment ? '' : line.text.slice(line.key.length)}
            {'\n'}
          </span>
        ))}
        {cut > 0 && <span class="line comment"># and {count(cut)} more lines, which Copy and Download have</span>}
      </pre>
    </section>
  );
}

export function Replayed({ one: { replay } }: { one: RecommendationAnswer }) {
  const { edges, unknown, closed, opened, beyond, misses, learnedDays, heldOutDays, findings, more } = replay;
  return (
    <div class="replay">
      <p>
        Of {count(edges)} {edges === 1 ? 'edge that was' : 'edges that were'} seen,{' '}
        <HowMany n={closed.length} of="bad" /> would be denied, and <HowMany n={opened.length} of="warn" /> opened.
        {unknown > 0 && ` ${count(unknown)} cannot be judged: their pods are gone.`}
        {more > 0 && ` ${count(more)} more changes are not listed here.`}
      </p>
      <Changes title="Would be denied" list={closed} class="denied" />
      <Changes title="Would be opened" list={opened} class="would-deny" />
      <Texts title="Opens, seen or not, what is denied now" list={beyond} />
      <section>
        <h3>Held out</h3>
        <p class={misses.length > 0 ? 'warn' : 'dim'}>
          {heldOutDays === 0
            ? 'There are too few days to hold some of them out.'
            : `A policy of the first ${learnedDays} days would have missed ${misses.length === 0 ? 'nothing' : count(misses.length)} of the other ${heldOutDays}.`}
        </p>
        <Plain list={misses} />
      </section>
      <Texts title="What lint says" list={findings} />
    </div>
  );
}

function HowMany({ n, of }: { n: number; of: string }) {
  return <strong class={n > 0 ? of : ''}>{n === 0 ? 'none' : count(n)}</strong>;
}

function Changes({ title, list, class: color }: { title: string; list: readonly EdgeChange[]; class: string }) {
  if (list.length === 0) return null;
  return (
    <section>
      <h3>
        {title}, {count(list.length)}
      </h3>
      <ul class="change-list">
        {list.map((change) => (
          <li key={`${change.to} ${change.port} ${change.was}`} class={`verdict ${color}`}>
            <span aria-hidden="true">{color === 'denied' ? '✕' : '✓'}</span>
            <span class="piece-to">{shown(change.to, 200)}</span>
            <code>{shown(change.port, 40)}</code>
            <span class="dim">
              {change.was} → {change.is}
              {change.why !== undefined && `, left out: ${change.why}`}
            </span>
            <span class="number">{count(change.connections)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Texts({ title, list }: { title: string; list: readonly string[] }) {
  if (list.length === 0) return null;
  return (
    <section>
      <h3>
        {title}, {count(list.length)}
      </h3>
      <Plain list={list} />
    </section>
  );
}

function Plain({ list }: { list: readonly string[] }) {
  return (
    <ul class="texts">
      {list.map((text) => (
        <li key={text}>{shown(text, 500)}</li>
      ))}
    </ul>
  );
}
