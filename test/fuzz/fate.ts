/** What must become of a packet, by the reference of the fuzzer of flows (flow-model.ts), and why. */
export interface Fate {
  readonly fate: 'pass' | 'drop' | 'either';
  readonly why: string;
}

export const pass = (why: string): Fate => ({ fate: 'pass', why });
export const drop = (why: string): Fate => ({ fate: 'drop', why });
export const either = (why: string): Fate => ({ fate: 'either', why });

/** Of what may leave, and must: nothing that must leave may not. */
export function between(may: boolean, must: boolean, why: string): Fate {
  if (must) return pass('allowed, or an answer');
  return may ? either(why) : drop('neither allowed nor an answer');
}
