/** What can be done to a policy from the board. */
import type { BoardPolicy } from '../../src/ui/wire/policies.js';
import type { Step } from '../../src/ui/wire/policies.js';

export type Act = 'edit' | 'impact' | Step;

export interface ActButton {
  readonly act: Act;
  readonly title: string;
  readonly key: string;
  readonly about: string;
  /** It takes the hands that write, and there are none. */
  readonly disabled: boolean;
}

/** @param writes whether policies can be written */
export function actsOf({ staged }: BoardPolicy, writes: boolean): ActButton[] {
  const step = (act: Act, title: string, key: string, about: string): ActButton => ({
    ...{ act, title, key, about },
    disabled: !writes,
  });
  return [
    { act: 'edit', title: 'Edit', key: 'e', about: 'edit, and see what would change', disabled: false },
    ...(staged
      ? [
          step('impact', 'Impact', 'i', 'whom it would deny, and whether it is ready'),
          step('enforce', 'Enforce', 'E', 'put it in force'),
        ]
      : [
          step('stage', 'Stage', 's', 'count what it would deny, and let it pass'),
          step('undo', 'Undo', 'u', 'stage it again, and restore what it replaced'),
        ]),
  ];
}
