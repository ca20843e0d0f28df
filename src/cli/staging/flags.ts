/** The options of the commands about policies. */
import type { Globals } from '../common/globals.js';

export interface StepFlags extends Globals {
  manifests?: string;
  write?: boolean;
  dryRun?: boolean;
  force?: boolean;
  days: number;
  output: 'text' | 'json';
}

export interface ImpactFlags extends Globals {
  days: number;
  follow?: boolean;
  exitCode?: boolean;
  output: 'text' | 'json';
}

export interface ActivityFlags extends Globals {
  unused?: boolean;
  staged?: boolean;
  namespace?: string[];
  since: number;
  output: 'text' | 'json';
}
