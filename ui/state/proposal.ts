/**
 * A policy that another screen proposes, handed over to the editor: the recommendation, or what would allow a flow. The
 * text stays in the tab's session storage, and the address has its number: `/policies?edit=new&proposal=3`. So a reload
 * shows it again, and a link leads somebody else to an empty editor, not to a text of a megabyte.
 *
 *     propose(yaml, 'recommended for shop/web');            // a new policy
 *     propose(yaml, 'allows 443/tcp', 'np/shop/web');       // another text of one that is there
 */
import { go, href } from './url.js';

/** What a screen proposes. */
export interface Proposal {
  readonly yaml: string;
  /** Where it comes from, for people. */
  readonly from: string;
}

const PREFIX = 'egress-proposal-';
/** Older ones are forgotten. */
const MOST_KEPT = 8;
const LONGEST = 1 << 20;

/**
 * Opens the editor with a proposal.
 * @param policy its id, if it is another text of a policy that is there: the editor shows what differs
 * @returns false: it is too long, or the browser keeps nothing
 */
export function propose(yaml: string, from: string, policy = 'new'): boolean {
  if (yaml.length > LONGEST) return false;
  try {
    const known = numbers();
    for (const n of known.slice(0, Math.max(0, known.length - MOST_KEPT + 1))) sessionStorage.removeItem(PREFIX + n);
    const n = (known.at(-1) ?? 0) + 1;
    sessionStorage.setItem(PREFIX + n, JSON.stringify({ yaml, from } satisfies Proposal));
    go(href('policies', { edit: policy, proposal: String(n), policy: undefined }));
    return true;
  } catch {
    return false;
  }
}

/** @param number of the address @returns undefined: there is none in this tab */
export function proposalOf(number: string | null): Proposal | undefined {
  if (number === null || !/^\d{1,9}$/.test(number)) return undefined;
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(PREFIX + number) ?? 'null');
    if (typeof value !== 'object' || value === null) return undefined;
    const { yaml, from } = value as Partial<Proposal>;
    return typeof yaml === 'string' && typeof from === 'string' ? { yaml, from } : undefined;
  } catch {
    return undefined;
  }
}

function numbers(): number[] {
  return Object.keys(sessionStorage)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => Number(key.slice(PREFIX.length)))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
}
