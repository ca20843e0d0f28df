/** A tier with its policies: only those in sight are drawn. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { type BoardColumn, type BoardRow, type GroupItem, rowsInSight, rowsOf } from '../../src/ui/wire/board.js';
import { count, shown } from '../parts/words.js';
import { Card } from './card.js';
import { focusTick, sort, spot } from './state.js';

/** Pixels: of the line of a namespace, of a card with the space below it, of a card's width at least. */
export const HEIGHTS = { group: 32, card: 92 };
const CARD_WIDTH = 290;
const PADDING = 8;
/** Pixels beyond what is in sight that are drawn, too. */
const BEYOND = 400;

/** What becomes of a packet that no policy of the tier decides. */
const DEFAULTS: Readonly<Record<string, string>> = {
  deny: 'pods that its policies select are denied the rest',
  pass: 'what nothing here decides goes on to the next tier',
  allow: 'what nothing here decides is allowed',
};

interface ColumnProps {
  readonly column: BoardColumn;
  readonly index: number;
  /** It takes the room that others do not need. */
  readonly isWide: boolean;
  /** Told of the rows as they are laid out: keys go by them. */
  readonly onRows: (index: number, rows: readonly BoardRow[]) => void;
}

export function Column({ column: { tier, items, cards, hidden }, index, isWide, onRows }: ColumnProps) {
  const box = useRef<HTMLDivElement>(null);
  const [seen, see] = useState({ top: 0, height: 900, width: 320 });
  useLayoutEffect(() => {
    const own = box.current;
    if (!own) return;
    const look = () => see({ top: own.scrollTop, height: own.clientHeight, width: own.clientWidth });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(own);
    own.addEventListener('scroll', look, { passive: true });
    return () => {
      observer.disconnect();
      own.removeEventListener('scroll', look);
    };
  }, []);
  const across = Math.max(1, Math.floor((seen.width - PADDING) / (CARD_WIDTH + PADDING)));
  const rows = useMemo(() => rowsOf(items, across, HEIGHTS), [items, across]);
  useLayoutEffect(() => onRows(index, rows), [index, rows]);
  const own = spot.value?.column === index ? spot.value.id : undefined;
  const tick = focusTick.value;
  useEffect(() => {
    if (own !== undefined && tick > 0 && box.current) bringIntoSight(box.current, rows, own);
  }, [tick, own]);
  const last = rows.at(-1);
  const height = last ? last.top + last.height : 0;
  const drawn = rowsInSight(rows, seen.top - BEYOND, seen.top + seen.height + BEYOND);
  // Tab leads to one card of each column: the one that keys were on, or the first in sight.
  const first = rows.find((row) => row.type === 'cards');
  const hasOwn = own !== undefined && drawn.some((r) => r.type === 'cards' && r.cards.some((c) => c.policy.id === own));
  const inSight = drawn.find((r) => r.type === 'cards' && r.top >= seen.top) ?? first;
  const entry = hasOwn ? own : inSight?.type === 'cards' ? inSight.cards[0]?.policy.id : undefined;
  const places = useMemo(() => placesOf(rows), [rows]);
  const name = tier.name === '' ? 'no egress rules' : tier.name;
  return (
    <section class={`column${isWide ? ' wide' : ''}`} aria-label={`tier ${shown(name, 80)}`}>
      <header>
        <h2 title={shown(name)}>{shown(name, 80)}</h2>
        <span class="dim">
          {count(cards)}
          {hidden > 0 && ` of ${count(cards + hidden)}`}
        </span>
        {tier.defaultAction !== '' && (
          <span class={`pill default ${tier.defaultAction}`} title={DEFAULTS[tier.defaultAction]}>
            default {tier.defaultAction}
          </span>
        )}
      </header>
      <div class="column-scroll" ref={box} tabIndex={-1}>
        {cards === 0 && <p class="none">{hidden > 0 ? 'no match' : 'empty'}</p>}
        <div class="column-space" style={{ height: `${height}px` }}>
          {drawn.map((row) =>
            row.type === 'group' ? (
              <GroupLine key={`${row.top} group`} group={row.group} top={row.top} />
            ) : (
              <ul
                key={row.cards[0]?.policy.id ?? row.top}
                class="row"
                style={{
                  transform: `translateY(${row.top}px)`,
                  gridTemplateColumns: `repeat(${across}, minmax(0, 1fr))`,
                }}
              >
                {row.cards.map((item) => (
                  <Card
                    key={item.policy.id}
                    item={item}
                    index={places.get(item.policy.id) ?? 0}
                    total={cards}
                    isGrouped={item.place === 0 && sort.value === 'judged'}
                    isCurrent={item.policy.id === entry}
                    onFocus={() => void (spot.value = { column: index, id: item.policy.id })}
                  />
                ))}
              </ul>
            ),
          )}
        </div>
      </div>
    </section>
  );
}

function placesOf(rows: readonly BoardRow[]): Map<string, number> {
  const places = new Map<string, number>();
  for (const row of rows)
    if (row.type === 'cards') for (const { policy } of row.cards) places.set(policy.id, places.size + 1);
  return places;
}

function GroupLine({ group: { namespace, count: n }, top }: { group: GroupItem; top: number }) {
  return (
    <div class="group" style={{ transform: `translateY(${top}px)` }}>
      <h3>{namespace === '' ? 'whole cluster' : shown(namespace, 63)}</h3>
      {n > 1 && (
        <span class="dim" title="they have no order: what one of them allows is allowed">
          {n} united
        </span>
      )}
    </div>
  );
}

/** Scrolls to a card, and gives it the focus when it is drawn. */
function bringIntoSight(box: HTMLElement, rows: readonly BoardRow[], id: string): void {
  const row = rows.find((r) => r.type === 'cards' && r.cards.some((c) => c.policy.id === id));
  if (!row) return;
  if (row.top < box.scrollTop + HEIGHTS.group) box.scrollTop = Math.max(0, row.top - HEIGHTS.group);
  else if (row.top + row.height > box.scrollTop + box.clientHeight)
    box.scrollTop = row.top + row.height - box.clientHeight + PADDING;
  let frames = 0;
  const focus = () => {
    // Another key has led on meanwhile.
    if (spot.peek()?.id !== id) return;
    const card = [...box.querySelectorAll<HTMLElement>('[data-card]')].find((c) => c.dataset['card'] === id);
    if (card) {
      card.focus({ preventScroll: true });
      card.closest('.column')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    } else if (++frames < 10) requestAnimationFrame(focus);
  };
  requestAnimationFrame(focus);
}
