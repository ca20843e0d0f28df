/** Which hosts the Sidecars of a namespace leave to its pods, and what happens to all others. */
import { AgentError } from '../../errors.js';
import { isRecord } from '../../identity/fields.js';
import { starred } from '../base/domains.js';
import type { Place, Remarks } from '../base/model.js';
import { EVERYTHING, NOTHING, Region } from '../base/region.js';
import type { Subject } from '../targets/common.js';
import { type IstioObject, type IstioObjects, type Mode, modeOf, recordsOf, textsOf } from './objects.js';

export interface Scope {
  readonly mode: Mode;
  readonly where: Place;
  /** The names of hosts, of ServiceEntries in a namespace, that the pods may see. */
  readonly visible: (namespace: string) => Region;
}

/** @throws AgentError USAGE if a Sidecar is for some of the pods only */
export function scopeOf(
  { sidecars, mode: mesh, root: rootNamespace }: IstioObjects,
  subject: Subject,
  file: string,
  refused: Remarks,
  notes: Remarks,
): Scope {
  const own = sidecars.filter((one) => one.namespace !== rootNamespace && one.namespace === subject.namespace);
  const foreign = sidecars.find((one) => one.namespace !== rootNamespace && subject.namespace === undefined);
  if (foreign)
    throw new AgentError('USAGE', `Sidecar ${foreign.namespace}/${foreign.name} is for pods of its namespace`, {
      hint: `make policies for that namespace: --namespace ${foreign.namespace}`,
    });
  const narrow: IstioObject[] = [];
  let mode = mesh;
  const root = sidecars.filter((one) => one.namespace === rootNamespace && !isRecord(one.spec.workloadSelector));
  // A Sidecar for some pods comes before that of the namespace, and that before the mesh's.
  for (const one of [...root, ...byPrecision(own)]) {
    const applies = selects(one, subject);
    if (applies === 'no') continue;
    const where = one.at('spec.outboundTrafficPolicy');
    const said = modeOf(one.spec, where);
    if (applies === 'maybe')
      notes.say(
        one.at('spec.workloadSelector'),
        'is for some of the pods: what it narrows is narrowed for all of them',
      );
    if (said && (applies === 'yes' || said.mode === 'REGISTRY_ONLY')) mode = said;
    if (one.spec.egress !== undefined) narrow.push(one);
  }
  if (!mode)
    notes.say(
      { file },
      'no file tells the outboundTrafficPolicy of the mesh: it is taken to be REGISTRY_ONLY (the default of Istio, ALLOW_ANY, allows every connection)',
    );
  return {
    mode: mode?.mode ?? 'REGISTRY_ONLY',
    where: mode?.where ?? { file },
    visible: (namespace) => {
      let region = EVERYTHING;
      for (const one of narrow) region = region.and(hostsOf(one, namespace, refused));
      return region;
    },
  };
}

function byPrecision(sidecars: readonly IstioObject[]): IstioObject[] {
  const chooses = (one: IstioObject) => Number(isRecord(one.spec.workloadSelector));
  return [...sidecars].sort((a, b) => chooses(a) - chooses(b));
}

function selects({ spec }: IstioObject, { labels }: Subject): 'yes' | 'no' | 'maybe' {
  const selector = isRecord(spec.workloadSelector) ? spec.workloadSelector : {};
  const wanted = Object.entries(isRecord(selector.labels) ? selector.labels : {});
  if (wanted.every(([key, value]) => labels[key] === value)) return 'yes';
  return wanted.some(([key, value]) => labels[key] !== undefined && labels[key] !== value) ? 'no' : 'maybe';
}

/** The names that a Sidecar's egress listeners have, of services in a namespace. */
function hostsOf(sidecar: IstioObject, namespace: string, refused: Remarks): Region {
  let region = NOTHING;
  recordsOf(sidecar.spec.egress).forEach((listener, i) => {
    const field = `spec.egress[${i}]`;
    if (listener.port !== undefined) {
      refused.say(sidecar.at(`${field}.port`), 'is a listener for one port: its hosts are not allowed');
      return;
    }
    textsOf(listener.hosts).forEach((text, j) => {
      const at = text.indexOf('/');
      const space = text.slice(0, Math.max(at, 0));
      const host = text.slice(at + 1);
      const domain = host === '*' ? undefined : starred(host);
      if (at < 0 || (host !== '*' && !domain)) {
        refused.say(
          sidecar.at(`${field}.hosts[${j}]`),
          `${JSON.stringify(text.slice(0, 80))} is not a host: it means none`,
        );
        return;
      }
      const meant = space === '*' || space === namespace || (space === '.' && namespace === sidecar.namespace);
      if (meant) region = domain ? region.or(Region.of([domain])) : EVERYTHING;
    });
  });
  return region;
}
