/** How the policies board is arranged: what passes its filters, in which column, below whom. Pure; for browsers, too. */
import type { ActivityAnswer, BoardPolicy, BoardTier, Hits, PoliciesAnswer } from './policies.js';

export const SHOWS = ['staged', 'unused', 'denied', 'refused'] as const;
/** Kinds of policies to be shown alone. */
export type Show = (typeof SHOWS)[number];

export const SORTS = ['judged', 'hits', 'last', 'name'] as const;
export type Sort = (typeof SORTS)[number];

export interface BoardFilter {
  /** Words, all of which are in its name, kind or problem. */
  readonly text: string;
  /** Empty: all. */
  readonly dialect: string;
  /** A policy is shown if it is one of these; empty: all are. */
  readonly show: readonly Show[];
  /** Empty: all. Policies of the whole cluster are always shown. */
  readonly namespaces: readonly string[];
}

/** A line above the policies of a namespace, which are united: what one of them allows is allowed. */
export interface GroupItem {
  readonly type: 'group';
  readonly namespace: string;
  readonly count: number;
}

export interface CardItem {
  readonly type: 'card';
  readonly policy: BoardPolicy;
  /** Its place among the policies that are judged one after the other, from 1; 0: it is united with others. */
  readonly place: number;
}

export type BoardItem = GroupItem | CardItem;

export interface BoardColumn {
  /** Its name is empty: policies without rules for egress. */
  readonly tier: BoardTier;
  readonly items: readonly BoardItem[];
  readonly cards: number;
  /** Policies that the filters hide. */
  readonly hidden: number;
}

/** Dialects whose policies have no order among them: a packet passes if one of them allows it. */
const UNITED: ReadonlySet<string> = new Set(['networkpolicy', 'fqdn', 'cilium']);

/** Whether it has decided nothing in the window, although it selects pods or not. Of one that is hidden nobody knows. */
export function isUnused({ hidden }: BoardPolicy, hits: Hits | undefined): boolean {
  if (hidden) return false;
  return hits === undefined || hits[0] + hits[1] + hits[2] + hits[3] === 0;
}

/** Whether a policy passes the filters. */
export function passes(policy: BoardPolicy, hits: Hits | undefined, filter: BoardFilter): boolean {
  const { namespaces, dialect, show } = filter;
  if (namespaces.length > 0 && policy.namespace !== '' && !namespaces.includes(policy.namespace)) return false;
  if (dialect !== '' && policy.dialect !== dialect) return false;
  if (show.length > 0 && !show.some((one) => isShown(policy, hits, one))) return false;
  if (filter.text === '') return true;
  const own = `${policy.id} ${policy.kind} ${policy.fault?.field ?? ''} ${policy.fault?.message ?? ''}`.toLowerCase();
  return filter.text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => own.includes(word));
}

function isShown(policy: BoardPolicy, hits: Hits | undefined, show: Show): boolean {
  switch (show) {
    case 'staged':
      return policy.staged;
    case 'unused':
      return isUnused(policy, hits);
    case 'denied':
      return hits !== undefined && hits[1] + hits[3] > 0;
    default:
      return policy.refused;
  }
}

/** The columns: the tiers in the order in which they are judged, then what has no rules for egress. */
export function columnsOf(
  { tiers, policies }: PoliciesAnswer,
  activity: Pick<ActivityAnswer, 'hits'> | undefined,
  filter: BoardFilter,
  sort: Sort,
): BoardColumn[] {
  const hits = activity?.hits ?? {};
  const own = (policy: BoardPolicy) => (Object.hasOwn(hits, policy.id) ? hits[policy.id] : undefined);
  const byId = new Map(policies.map((p) => [p.id, p]));
  const placed = new Set(tiers.flatMap((t) => t.policies));
  const others = policies.filter((p) => !placed.has(p.id)).map((p) => p.id);
  const all = others.length > 0 ? [...tiers, { name: '', defaultAction: '', policies: others }] : tiers;
  return all.map((tier) => {
    const known = tier.policies.flatMap((id) => byId.get(id) ?? []);
    const shown = known.filter((policy) => passes(policy, own(policy), filter));
    const items = sort === 'judged' ? grouped(known, new Set(shown)) : sorted(shown, own, sort);
    return { tier, items, cards: shown.length, hidden: known.length - shown.length };
  });
}

function sorted(policies: readonly BoardPolicy[], own: (p: BoardPolicy) => Hits | undefined, sort: Sort): BoardItem[] {
  const sum = (p: BoardPolicy) => (own(p) ?? []).slice(0, 4).reduce((a, b) => a + b, 0);
  const last = (p: BoardPolicy) => own(p)?.[4] ?? 0;
  const name = (p: BoardPolicy) => `${p.namespace}/${p.name}`;
  const order = {
    judged: () => 0,
    hits: (a: BoardPolicy, b: BoardPolicy) => sum(b) - sum(a),
    last: (a: BoardPolicy, b: BoardPolicy) => last(b) - last(a),
    name: (a: BoardPolicy, b: BoardPolicy) => (name(a) < name(b) ? -1 : 1),
  }[sort];
  return [...policies].sort(order).map((policy) => ({ type: 'card', policy, place: 0 }));
}

/** Policies with an order one after the other; those between them that are united, below their namespaces. */
function grouped(policies: readonly BoardPolicy[], shown: ReadonlySet<BoardPolicy>): BoardItem[] {
  const items: BoardItem[] = [];
  let run = new Map<string, BoardPolicy[]>();
  const end = () => {
    for (const [namespace, list] of [...run].sort(([a], [b]) => (a < b ? -1 : 1))) {
      items.push({ type: 'group', namespace, count: list.length });
      for (const policy of list) items.push({ type: 'card', policy, place: 0 });
    }
    run = new Map();
  };
  let place = 0;
  for (const policy of policies) {
    if (UNITED.has(policy.dialect)) {
      if (!shown.has(policy)) continue;
      const list = run.get(policy.namespace);
      if (list) list.push(policy);
      else run.set(policy.namespace, [policy]);
      continue;
    }
    place++;
    if (!shown.has(policy)) continue;
    end();
    items.push({ type: 'card', policy, place });
  }
  end();
  return items;
}

/** A row of a column: the line of a namespace, or as many cards as there is room for. */
export type BoardRow = { readonly top: number; readonly height: number } & (
  | { readonly type: 'group'; readonly group: GroupItem }
  | { readonly type: 'cards'; readonly cards: readonly CardItem[] }
);

/** Lays a column's items out in rows. @param across cards beside each other @param height of both kinds, pixels */
export function rowsOf(
  items: readonly BoardItem[],
  across: number,
  height: { readonly group: number; readonly card: number },
): BoardRow[] {
  const rows: BoardRow[] = [];
  let [top, cards] = [0, [] as CardItem[]];
  const flush = () => {
    if (cards.length === 0) return;
    rows.push({ type: 'cards', cards, top, height: height.card });
    top += height.card;
    cards = [];
  };
  for (const item of items) {
    if (item.type === 'card') {
      cards.push(item);
      if (cards.length >= across) flush();
      continue;
    }
    flush();
    rows.push({ type: 'group', group: item, top, height: height.group });
    top += height.group;
  }
  flush();
  return rows;
}

/** The rows that are in sight, and some around them. Rows ascend. */
export function rowsInSight(rows: readonly BoardRow[], from: number, to: number): BoardRow[] {
  let [lo, hi] = [0, rows.length];
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    const row = rows[middle] as BoardRow;
    if (row.top + row.height < from) lo = middle + 1;
    else hi = middle;
  }
  const out: BoardRow[] = [];
  for (let n = lo; n < rows.length; n++) {
    const row = rows[n] as BoardRow;
    if (row.top > to) break;
    out.push(row);
  }
  return out;
}

/** A card of a column. */
export interface Spot {
  readonly column: number;
  readonly id: string;
}

export type Move = 'up' | 'down' | 'left' | 'right' | 'next' | 'previous';

/**
 * Where a key leads from a card.
 * @param columns the rows of each
 * @returns undefined: there is no card at all
 */
export function moved(columns: readonly (readonly BoardRow[])[], from: Spot | undefined, move: Move): Spot | undefined {
  const grid = columns.map((rows) => rows.flatMap((row) => (row.type === 'cards' ? [row] : [])));
  const spot = (column: number, row: number, n: number): Spot | undefined => {
    const cards = grid[column]?.[row]?.cards ?? [];
    const card = cards[Math.min(n, cards.length - 1)];
    return card && { column, id: card.policy.id };
  };
  const first = grid.findIndex((rows) => rows.length > 0);
  if (first < 0) return undefined;
  const own = grid[from?.column ?? -1] ?? [];
  const row = own.findIndex(({ cards }) => cards.some((c) => c.policy.id === from?.id));
  if (!from || row < 0) return spot(first, 0, 0);
  const { cards, top } = own[row] as (typeof own)[number];
  const n = cards.findIndex((c) => c.policy.id === from.id);
  const beside = (step: 1 | -1): Spot => {
    for (let column = from.column + step; column >= 0 && column < grid.length; column += step) {
      const rows = grid[column] ?? [];
      if (rows.length === 0) continue;
      const level = rows.findIndex((r) => r.top + r.height > top);
      const found = spot(column, level < 0 ? rows.length - 1 : level, step > 0 ? 0 : Number.MAX_SAFE_INTEGER);
      if (found) return found;
    }
    return from;
  };
  switch (move) {
    case 'up':
      return spot(from.column, row - 1, n) ?? from;
    case 'down':
      return spot(from.column, row + 1, n) ?? from;
    case 'next':
      return n + 1 < cards.length ? spot(from.column, row, n + 1) : (spot(from.column, row + 1, 0) ?? from);
    case 'previous':
      return n > 0 ? spot(from.column, row, n - 1) : (spot(from.column, row - 1, Number.MAX_SAFE_INTEGER) ?? from);
    case 'right':
      return n + 1 < cards.length ? spot(from.column, row, n + 1) : beside(1);
    default:
      return n > 0 ? spot(from.column, row, n - 1) : beside(-1);
  }
}
