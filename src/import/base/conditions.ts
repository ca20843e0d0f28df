/** Conditions of rules as alternatives of boxes, with what no policy can ask for as doubts. */
import { bound } from './limits.js';
import { andBoxes, type Box, type Effect, type ListRule, type Place, type Remarks } from './model.js';
import { EVERYTHING } from './region.js';
import { EVERY_PORT, NO_PORT, noPorts, notAddresses, notPorts } from './spans.js';
import { EVERY_SPEECH, noSpeech, notSpeech } from './speech.js';

/** A box, if each doubt holds. */
interface Alternative extends Box {
  /** Why it is not known whether it holds. */
  readonly doubts: readonly Doubt[];
}

export interface Doubt {
  readonly message: string;
  readonly hint?: string;
}

/** Any of these alternatives; none: never. */
export type Condition = readonly Alternative[];

/** Every connection. */
export const ANYTHING: Box = { names: EVERYTHING, speech: EVERY_SPEECH, addresses: null, ports: EVERY_PORT };
const MAX_ALTERNATIVES = 256;

export const ALWAYS: Condition = [{ ...ANYTHING, doubts: [] }];
export const NEVER: Condition = [];

/** A condition on some of the parts of a connection. */
export function only(part: Partial<Box>): Condition {
  const box = { ...ANYTHING, ...part };
  if (box.names.isEmpty || noSpeech(box.speech) || box.addresses?.length === 0 || noPorts(box.ports)) return NEVER;
  return [{ ...box, doubts: [] }];
}

export function doubtful(message: string, hint?: string): Condition {
  return [{ ...ANYTHING, doubts: [hint === undefined ? { message } : { message, hint }] }];
}

export function anyOf(conditions: readonly Condition[]): Condition {
  const all = conditions.flat();
  bound(all.length, MAX_ALTERNATIVES, 'alternatives in one condition');
  return all;
}

export function allOf(conditions: readonly Condition[]): Condition {
  let all: Condition = ALWAYS;
  for (const one of conditions) {
    bound(all.length * one.length, MAX_ALTERNATIVES, 'alternatives in one condition');
    all = all.flatMap((a) =>
      one.flatMap((b) => {
        const box = andBoxes(a, b);
        return box ? [{ ...box, doubts: [...a.doubts, ...b.doubts] }] : [];
      }),
    );
  }
  return all;
}

export function not(condition: Condition): Condition {
  return allOf(
    condition.map(({ names, speech, addresses, ports, doubts }) =>
      anyOf([
        only({ names: names.not() }),
        only({ speech: notSpeech(speech) }),
        addresses === null ? NEVER : only({ addresses: notAddresses(addresses) }),
        only({ ports: ports === EVERY_PORT ? NO_PORT : notPorts(ports) }),
        // Whether a doubt does not hold is as little known.
        ...doubts.map(({ message, hint }) => doubtful(message, hint)),
      ]),
    ),
  );
}

/**
 * The rules of a line, closed: an alternative with a doubt allows nothing, and denies as if the doubt held. Each doubt
 * is told.
 */
export function rulesOf(action: Effect, condition: Condition, where: Place, refused: Remarks): ListRule[] {
  return condition.flatMap(({ doubts, ...box }) => {
    for (const { message, hint } of doubts)
      refused.say(where, `${message}: ${action === 'allow' ? 'it allows nothing' : 'it denies always'}`, hint);
    return doubts.length > 0 && action === 'allow' ? [] : [{ action, ...box, where }];
  });
}
