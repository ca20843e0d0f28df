/**
 * Regular expressions of layer-7 rules become tables that the kernel walks (dfa.ts). They mean what RE2 with its default
 * options means by a full match of UTF-8 text, as in Envoy and Cilium: case-sensitive, and bytes that are no UTF-8 match
 * nothing but what RE2 lets through (nfa.ts, `sequences`).
 *
 * The automata are our own: npm's library for them (refa) is built for JavaScript's syntax and sets of UTF-16, takes
 * no budget of time, and knows no states that accept for one of several expressions; what would be left of it is less
 * than the code around it. Texts come from whoever may write a policy, so each step has a limit: places, states, and
 * steps of work, never a clock, so that the same text is refused everywhere.
 */
import { determine } from './determine.js';
import { type Dfa, MAX_CELLS, MAX_STATES, sizeOf } from './dfa.js';
import { minimize } from './minimize.js';
import { Nfa, TooLarge } from './nfa.js';
import { parseRegex } from './parse.js';
import { regexFault } from './syntax.js';

/**
 * The table of one regular expression, whose index in the sets is 0.
 * @param text of RE2's syntax
 * @param field path of the field that has it, for the error
 * @throws AgentError POLICY: not RE2, or not supported; TOO_LARGE: it needs more states than a table may have
 */
export function compileRegex(text: string, field: string): Dfa {
  const node = parseRegex(text, field);
  const tooLarge = (what: string) =>
    regexFault(text, field, what, {
      code: 'TOO_LARGE',
      hint: 'repeat less: {n,m} counts as so many copies, and what can begin at many places is followed at all of them',
    });
  let dfa: Dfa;
  try {
    dfa = minimize(determine(new Nfa(node)));
  } catch (error) {
    throw error instanceof TooLarge ? tooLarge('too many ways to match') : error;
  }
  if (sizeOf(dfa) > MAX_STATES || dfa.next.length > MAX_CELLS)
    throw tooLarge(`needs more than ${MAX_STATES} states, or so many with many classes of bytes`);
  return dfa;
}
