/** The options of egressctl recommend. */
import type { Language } from '../../recommend/base/names.js';
import type { Network, PortRange } from '../../recommend/base/types.js';
import type { Globals } from '../common/globals.js';

export interface RecommendFlags extends Globals {
  to: Language;
  namespace?: string[];
  since?: number;
  until?: number;
  minDays: number;
  network?: Network[];
  range?: PortRange[];
  clusterCidr?: string[];
  dns?: string[];
  withDenied?: boolean;
  manifests?: string[];
  edges?: string;
  outputDir?: string;
  output: 'yaml' | 'json' | 'text';
}
