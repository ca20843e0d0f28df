/** The option of commands that read manifests themselves: how the names in them are verified. */
import { Option } from 'commander';
import { type Hearing, VERIFY_NAMES } from '../../dialects/hearing.js';

export interface VerifyFlags {
  verifyNames?: Hearing['verifyNames'];
}

export function verifyNamesOption(more = ''): Option {
  return new Option(
    '--verify-names <how>',
    `${more}as the agent's option: whether connections to addresses of names must name them (default: off)`,
  ).choices(VERIFY_NAMES);
}

/** What the flags say of how policies are read. */
export function hearingOf({ verifyNames }: VerifyFlags): Partial<Hearing> {
  return verifyNames === undefined ? {} : { verifyNames };
}
