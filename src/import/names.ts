/** The names of products and languages, without the code for them. */
export const SOURCES = ['squid', 'aws-network-firewall', 'istio', 'route53-dns-firewall'] as const;
export type Source = (typeof SOURCES)[number];
export const TARGETS = ['cilium', 'cnp', 'calico', 'fqdn'] as const;
export type Target = (typeof TARGETS)[number];
