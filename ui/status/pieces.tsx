/** What the pages of the status share. */
import type { ComponentChildren } from 'preact';
import type { ProblemRow } from '../../src/ui/wire/status.js';
import { count, shown } from '../parts/words.js';
import { counted, NEARLY_FULL, percent } from './words.js';

/** A bar with its share; from four fifths on it warns, by its words too. */
export function Fill({ share, title = '' }: { share: number; title?: string }) {
  const isFull = share > NEARLY_FULL;
  return (
    <span class={`fill${isFull ? ' full' : ''}`} title={title === '' ? undefined : shown(title, 60)}>
      <span class="bar-track" aria-hidden="true">
        <span style={{ width: `${Math.min(100, Math.round(share * 100))}%` }} />
      </span>
      {percent(share)}
      {isFull && <span class="sr-only"> nearly full</span>}
    </span>
  );
}

export function Card({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="card facts-card">
      <h3>{title}</h3>
      {children}
    </section>
  );
}

export interface Fact {
  readonly name: string;
  readonly value: ComponentChildren;
  /** Somebody should look at it. */
  readonly tone?: 'warn' | 'bad';
}

/** Names and values, those without a value left out. */
export function Facts({ list }: { list: readonly (Fact | undefined | false)[] }) {
  return (
    <dl class="fact-list">
      {list.map(
        (fact) =>
          fact && (
            <div key={fact.name}>
              <dt>{fact.name}</dt>
              <dd class={fact.tone}>{fact.value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

/** Refused policies, and what else is wrong with their texts. */
export function Problems({ list, more, ofCluster }: { list: readonly ProblemRow[]; more: number; ofCluster: boolean }) {
  if (list.length === 0) return null;
  return (
    <section class="card problem-list" aria-label="problems of policies">
      <h3>Problems of policies, {count(list.length + more)}</h3>
      <ul>
        {list.map((problem) => (
          <li key={`${problem.object} ${problem.field} ${problem.message}`} class="problem-row">
            <p class="problem-head">
              <span class={problem.severity === 'error' ? 'bad' : 'warn'}>
                {problem.severity === 'error' ? '✕ refused' : '◐ warning'}
              </span>
              <strong>{shown(problem.object || problem.file, 200)}</strong>
              {problem.field !== '' && <code>{shown(problem.field, 200)}</code>}
              {ofCluster && (
                <span class="dim">
                  {problem.nodes === 1 ? `on ${shown(problem.node, 80)}` : `on ${counted(problem.nodes, 'node')}`}
                </span>
              )}
            </p>
            <p>{shown(problem.message, 600)}</p>
            {problem.hint !== '' && <p class="dim">{shown(problem.hint, 600)}</p>}
          </li>
        ))}
        {more > 0 && <li class="problem-row dim">and {count(more)} more</li>}
      </ul>
    </section>
  );
}
