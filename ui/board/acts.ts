/** What can be done to a policy from the board. */
import type { BoardPolicy } from '../../src/ui/wire/policies.js';
import type { Step } from '../../src/ui/wire/policies.js';

export type Act = 'edit' | 'impact' | Step;

export interface ActButton {
  readonly act: Act;
  readonly title: string;
  readonly key: string;
  readonly about: string;
  /** It would write, and nothing may be written. */
  readonly disabled: boolean;
}

/** @param writes whether policies can be written */
export function actsOf({ staged }: BoardPolicy, writes: boolean): ActButton[] {
  const step = (act: Step, title: string, key: string, about: string): ActButton => ({
    ...{ act, title, key, about },
    disabled: !writes,
  });
  return [
    { act: 'edit', title: 'Edit', key: 'e', about: 'edit, and see what would change', disabled: false },
    ...(staged
      ? [
          { act: 'impact', title: 'Impact', key: 'i', about: 'whom it would deny', disabled: false } as const,
          step('enforce', 'Enforce', 'E', 'put it in force'),
        ]
      : [
          step('stage', 'Stage', 's', 'count what it would deny, and let it pass'),
          step('undo', 'Undo', 'u', 'stage it again, and restore what it replaced'),
        ]),
  ];
}
