/** Answers to POST /api/why. Server and browser share it. */

/** A rule that was looked at. */
export interface WhyRule {
  /** `np/shop/web#2` */
  readonly rule: string;
  readonly action: string;
  readonly result: 'decides' | 'passes' | 'logs' | 'staged' | 'no-match' | 'not-reached';
  /** The rule in words. */
  readonly text: string;
  /** Why it matched, or did not. */
  readonly why: string;
}

export interface WhyPolicy {
  /** Its id: `np/shop/web` */
  readonly policy: string;
  readonly staged: boolean;
  readonly why: string;
  readonly rules: readonly WhyRule[];
  /** Rules that are left out. */
  readonly more: number;
}

export interface WhyTier {
  readonly tier: string;
  readonly outcome: 'allow' | 'deny' | 'pass' | 'does-not-apply' | 'not-reached';
  /** Those that select the sender. */
  readonly policies: readonly WhyPolicy[];
  /** Those that do not, with the reason. */
  readonly others: readonly { readonly policy: string; readonly why: string }[];
  readonly moreOthers: number;
  /** The rules that nobody wrote, and the default. */
  readonly always: readonly WhyRule[];
}

/** An address that was judged. */
export interface WhyTarget {
  readonly ip: string;
  readonly port: number;
  /** What has this address: `pod shop/api`. */
  readonly is: readonly string[];
  /** The names under which the sender learned it. */
  readonly names: readonly string[];
  readonly verdict: 'allow' | 'deny' | 'partial';
  /** Why it is denied before any rule. */
  readonly before?: string;
  readonly tiers: readonly WhyTier[];
}

/** What the policies of now say. */
export interface WhyNow {
  readonly verdict: 'allow' | 'deny' | 'partial';
  /** Text of the rule; empty: none decided. */
  readonly rule: string;
  readonly auditVerdict?: 'allow' | 'deny' | 'partial';
  readonly auditRule?: string;
  /** The verdict in one sentence. */
  readonly sentence: string;
  readonly notes: readonly string[];
  readonly targets: readonly WhyTarget[];
  /** Addresses that are left out. */
  readonly more: number;
}

/** What would allow it. */
export interface WhyAllow {
  readonly text: string;
  /** A policy that would, to begin from. */
  readonly yaml?: string;
  /** Id of the policy that is to be changed. */
  readonly policy?: string;
}

export interface WhyAnswer {
  /** Who was asked about, and how that was chosen. */
  readonly asked?: { readonly from: string; readonly to: string; readonly how: string };
  readonly now?: WhyNow;
  /** Why there is no answer. */
  readonly cannot?: string;
  readonly allow?: WhyAllow;
}
