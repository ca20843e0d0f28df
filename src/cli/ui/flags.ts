import type { Globals } from '../common/globals.js';

/** The options of `egressctl ui`. */
export interface UiFlags extends Globals {
  port: number;
  open: boolean;
}
