/**
 * Narrows filters of flows to what a viewer may see, before a source is asked: what is left out afterwards would still
 * have been counted and sampled, and so tell by its absence that it was there.
 */
import type { Filters } from '../../flow/filter/options.js';
import type { FlowFilter } from '../../proto/messages.js';

const ENDS = ['source', 'destination'] as const;
type End = (typeof ENDS)[number];

/** Fields about what only who sees an end may know: of which end. Names of an end are what the other one has learned. */
const KNOWN_BY: Readonly<Partial<Record<keyof FlowFilter, End>>> = {
  source_label: 'source',
  destination_label: 'destination',
  source_identity: 'source',
  destination_identity: 'destination',
  source_fqdn: 'destination',
  destination_fqdn: 'source',
  dns_query: 'source',
  server_name: 'source',
  http_method: 'source',
  http_path: 'source',
  http_url: 'source',
};

/** Whether filters are about what not everybody may know who sees one of a flow's ends. */
export function isAsking({ whitelist, blacklist }: Filters): boolean {
  return [...whitelist, ...blacklist].some((filter) => askedEnds(filter).length > 0);
}

/**
 * The filters, for flows with an end in these namespaces, and where it asks what only who sees an end may know, with that
 * end in them.
 * @returns undefined: no such flow can match
 */
export function narrowed({ whitelist, blacklist }: Filters, namespaces: readonly string[]): Filters | undefined {
  const wanted = (whitelist.length > 0 ? whitelist : [{}]).flatMap((filter) => {
    const asked = askedEnds(filter);
    return asked.length > 0
      ? within(filter, asked, namespaces)
      : ENDS.flatMap((end) => within(filter, [end], namespaces));
  });
  if (wanted.length === 0) return undefined;
  // Nothing is left out for what the viewer may not know of it.
  return { whitelist: wanted, blacklist: blacklist.flatMap((filter) => within(filter, askedEnds(filter), namespaces)) };
}

function askedEnds(filter: FlowFilter): End[] {
  return ENDS.filter((end) =>
    (Object.keys(filter) as (keyof FlowFilter)[]).some((field) => KNOWN_BY[field] === end && filter[field]?.length),
  );
}

/** @returns the filter for flows with these ends in the namespaces; none: there are none */
function within(filter: FlowFilter, ends: readonly End[], namespaces: readonly string[]): FlowFilter[] {
  const out: FlowFilter = { ...filter };
  for (const end of ends) {
    const given = filter[`${end}_pod`] ?? [''];
    const pods = given.flatMap((pod) => {
      const slash = pod.indexOf('/');
      if (slash <= 0) return namespaces.map((namespace) => `${namespace}/${pod.slice(slash + 1)}`);
      return namespaces.includes(pod.slice(0, slash)) ? [pod] : [];
    });
    if (pods.length === 0) return [];
    out[`${end}_pod`] = pods;
  }
  return [out];
}
