/** What was seen, with a box for each piece: a rule is made of what is ticked. */
import type { LeftOut, LeftOutWhy, RecommendedRule, RuleEvidence } from '../../src/recommend/base/types.js';
import type { RecommendationAnswer } from '../../src/ui/wire/recommend.js';
import { bytes, count, shown } from '../parts/words.js';
import { also, choose, dropChoices, marked, nameOf, without } from './state.js';

export function Evidence({ one }: { one: RecommendationAnswer }) {
  const unwanted = one.leftOut.filter(({ why }) => why === 'unwanted');
  const left = one.leftOut.filter(({ why }) => why !== 'unwanted');
  const choices = without.value.length + also.value.length;
  return (
    <section class="evidence" aria-label="evidence">
      {[...one.notes, ...one.warnings].length > 0 && (
        <ul class="notes">
          {[...one.notes, ...one.warnings].map((text) => (
            <li key={text}>{shown(text, 600)}</li>
          ))}
        </ul>
      )}
      <div class="evidence-head">
        <h3>
          Allowed, {count(one.rules.length)} {one.rules.length === 1 ? 'rule' : 'rules'}
        </h3>
        {choices > 0 && (
          <button type="button" class="quiet" onClick={dropChoices}>
            Drop {choices === 1 ? 'your choice' : `your ${choices} choices`}
          </button>
        )}
      </div>
      {one.rules.map((rule, n) => (
        <Rule key={`${rule.to} ${n}`} rule={rule} />
      ))}
      {unwanted.length > 0 && <LeftList title="Not wanted" list={unwanted} more={0} />}
      {left.length > 0 && <LeftList title="Left out" list={left} more={one.leftOutMore} />}
    </section>
  );
}

function Rule({ rule: { to, ports, evidence, beyond } }: { rule: RecommendedRule }) {
  return (
    <div class="rule card">
      <p class="rule-to">
        <span>{shown(to, 300)}</span>
        {ports.slice(0, SHOWN_PORTS).map((port) => (
          <code key={port}>{shown(port, 40)}</code>
        ))}
        {ports.length > SHOWN_PORTS && <span class="dim">+{ports.length - SHOWN_PORTS}</span>}
      </p>
      <ul>
        {evidence.map((piece) => (
          <Piece key={nameOf(piece)} piece={piece} />
        ))}
        {evidence.length === 0 && <li class="dim always">always allowed, seen or not</li>}
      </ul>
      {beyond.length > 0 && evidence.length > 0 && (
        <p class="beyond">beyond what was seen: {shown(beyond.join('; '), 400)}</p>
      )}
    </div>
  );
}

const SHOWN_PORTS = 6;

/** Marks the lines of a piece of evidence while the pointer or the focus is on it. */
function marking(name: string) {
  const on = () => void (marked.value = name);
  const off = () => {
    if (marked.value === name) marked.value = '';
  };
  return { onMouseEnter: on, onMouseLeave: off, onFocusCapture: on, onBlurCapture: off };
}

function Piece({ piece }: { piece: RuleEvidence }) {
  const name = nameOf(piece);
  const isOn = !without.value.includes(name);
  const { days, of, first, last, isNew, denied } = piece;
  return (
    <li class={`piece${isOn ? '' : ' off'}`} {...marking(name)}>
      <label>
        <input
          type="checkbox"
          checked={isOn}
          onChange={(event) => choose(name, event.currentTarget.checked, !also.value.includes(name))}
        />
        <span class="piece-to">{shown(piece.to, 200)}</span>
        <code>{shown(piece.port, 40)}</code>
      </label>
      <span class="piece-facts" title={`${bytes(piece.bytes)}, from ${first} to ${last}`}>
        {isNew && <span class="pill warn">new since {first}</span>}
        {denied && <span class="pill bad">denied until now</span>}
        {also.value.includes(name) && <span class="pill">your choice</span>}
        <span>
          {count(piece.connections)} {piece.connections === 1 ? 'connection' : 'connections'}
        </span>
        <span>
          {days} of {of} days
        </span>
      </span>
    </li>
  );
}

const WHY: Readonly<Record<LeftOutWhy, string>> = {
  'one-off': 'seen too rarely',
  scan: 'part of a scan',
  unanswered: 'nobody answered',
  denied: 'was denied',
  'many-ports': 'many ports of one peer',
  'many-peers': 'many peers of one port',
  gone: 'its pods are gone',
  other: 'the ledger had no room',
  unwanted: 'not wanted',
  unsayable: 'the language cannot say it',
};
/** No choice makes a rule of these. */
const CLOSED: ReadonlySet<LeftOutWhy> = new Set(['gone', 'other', 'unsayable', 'many-peers']);

function LeftList({ title, list, more }: { title: string; list: readonly LeftOut[]; more: number }) {
  return (
    <>
      <div class="evidence-head">
        <h3>
          {title}, {count(list.length + more)}
        </h3>
      </div>
      <ul class="evidence-left card">
        {list.map((left) => (
          <Left key={`${nameOf(left)} ${left.why}`} left={left} />
        ))}
        {more > 0 && <li class="dim always">and {count(more)} more, which egressctl recommend -o json lists</li>}
      </ul>
    </>
  );
}

function Left({ left }: { left: LeftOut }) {
  const name = nameOf(left);
  const isOn = left.why === 'unwanted' ? !without.value.includes(name) : also.value.includes(name);
  const why = left.hint === undefined ? WHY[left.why] : `${WHY[left.why]}: ${left.hint}`;
  return (
    <li class={`piece${isOn ? '' : ' off'}`} {...marking(name)}>
      <label>
        <input
          type="checkbox"
          checked={isOn}
          disabled={CLOSED.has(left.why)}
          onChange={(event) => choose(name, event.currentTarget.checked, left.why === 'unwanted')}
        />
        <span class="piece-to">{shown(left.to, 200)}</span>
        <code>{shown(left.port, 40)}</code>
      </label>
      <span class="piece-facts" title={`last on ${left.last}`}>
        <span class={left.why === 'denied' ? 'bad' : 'dim'}>{shown(why, 300)}</span>
        <span>
          {count(left.connections)} {left.connections === 1 ? 'connection' : 'connections'}
        </span>
        <span>
          {left.days} {left.days === 1 ? 'day' : 'days'}
        </span>
      </span>
    </li>
  );
}
