/**
 * POST /api/recommend: what could be recommended for whom, without the policies. POST /api/recommendation: all of one.
 * Texts of rules, evidence and what is left out are as src/recommend/base/types.ts says them.
 */

import type { Language } from '../../recommend/base/names.js';
import type { WorkloadRecommendation } from '../../recommend/base/types.js';

/** The languages, as people call them. */
export const LANGUAGE_NAMES: Readonly<Record<Language, string>> = {
  networkpolicy: 'NetworkPolicy',
  cnp: 'ClusterNetworkPolicy',
  calico: 'Calico',
  cilium: 'Cilium',
  fqdn: 'GKE, with names',
  applicationnetworkpolicy: 'EKS, with names',
};

/** Days on which something must have been seen. */
export const MIN_DAYS = { least: 1, most: 35, usual: 2 } as const;
/** Choices of evidence in one question. */
export const MOST_CHOICES = 500;

/** The body of POST /api/recommend. */
export interface RecommendListRequest {
  readonly namespaces: readonly string[];
  readonly minDays: number;
}

export interface RecommendListRow {
  /** `namespace/name` */
  readonly workload: string;
  readonly kind: string;
  readonly state: 'stable' | 'learning';
  readonly reason: string;
  /** Why there is no policy for it. */
  readonly refused?: string;
  readonly days: number;
  readonly of: number;
  /** Policies in force that select it. */
  readonly policies: number;
  readonly rules: number;
  readonly leftOut: number;
  /** What a policy of the first days would have missed. */
  readonly misses: number;
}

export interface RecommendList {
  readonly since: string;
  readonly until: string;
  readonly days: number;
  readonly warnings: readonly string[];
  readonly workloads: readonly RecommendListRow[];
}

/** The body of POST /api/recommendation. */
export interface RecommendationRequest {
  readonly workload: string;
  /** Workloads of one name may be of several kinds. */
  readonly kind?: string;
  readonly language: Language;
  readonly minDays: number;
  /** Evidence that is left out, and evidence that is taken: `shop/api: 8080/tcp`. */
  readonly without: readonly string[];
  readonly also: readonly string[];
}

/** The answer of POST /api/recommendation, with what is said of all of it. */
export interface RecommendationAnswer extends WorkloadRecommendation {
  readonly since: string;
  readonly until: string;
  readonly notes: readonly string[];
}
