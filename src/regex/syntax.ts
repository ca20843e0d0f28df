/** What regular expressions are made of, once they are read. */
import { AgentError, type ErrorCode } from '../errors.js';
import type { Ranges } from './ranges.js';

export type Node =
  /** One character of a set. */
  | { readonly kind: 'set'; readonly ranges: Ranges }
  /** True before the first character, and behind the last one. */
  | { readonly kind: 'begin' | 'end' }
  /** All parts, one behind the other; without any, the empty text. */
  | { readonly kind: 'all'; readonly parts: readonly Node[] }
  | { readonly kind: 'any'; readonly options: readonly Node[] }
  /** `max` may be Infinity. */
  | { readonly kind: 'repeat'; readonly node: Node; readonly min: number; readonly max: number };

export interface Fault {
  readonly code?: ErrorCode;
  /** Position in the text, in characters from 0. */
  readonly at?: number;
  readonly hint?: string;
}

/** The error of a regular expression that is refused. Long ones are cut in the message. */
export function regexFault(
  text: string,
  field: string,
  what: string,
  { code = 'POLICY', at, hint }: Fault,
): AgentError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  const place = at === undefined ? '' : `, at character ${at + 1}`;
  return new AgentError(code, `the regular expression ${JSON.stringify(shown)}${place}: ${what}`, {
    where: { field },
    ...(hint === undefined ? {} : { hint }),
  });
}
