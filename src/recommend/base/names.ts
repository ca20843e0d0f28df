/** The languages of recommended policies; apart, since a command line needs nothing else to say its help. */

/**
 * `fqdn`: NetworkPolicies, and FQDNNetworkPolicies of GKE beside them for names. `applicationnetworkpolicy`: that of EKS.
 */
export const LANGUAGES = ['networkpolicy', 'cnp', 'calico', 'cilium', 'fqdn', 'applicationnetworkpolicy'] as const;
export type Language = (typeof LANGUAGES)[number];
