/** NetworkPolicy of projectcalico.org/v3. Without an order: it comes after all that has one. */
import { hasPorts } from '../../net/protocol.js';
import type { ModelRule } from '../rules/model.js';
import { blocksOf, chunks, type Maker, ofKind, protocolText, type Said, written } from './common.js';

const MAX_PORTS = 50;
const MAX_NETS = 256;
const MAX_NAMES = 500;

export const toCalico: Maker = ({ namespace, name, labels }, rules) => {
  const said = rules.flatMap(itemsOf);
  const object = {
    apiVersion: 'projectcalico.org/v3',
    kind: 'NetworkPolicy',
    metadata: { name, namespace },
    spec: { selector: selectorOf(labels), types: ['Egress'], egress: said.map(([item]) => item) },
  };
  return [written(object, said)];
};

function selectorOf(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key} == '${value}'`)
    .join(' && ');
}

function itemsOf(rule: ModelRule): Said[] {
  const pods = ofKind(rule, 'pods').map((pod) => ({
    selector: selectorOf(pod.labels),
    namespaceSelector: `projectcalico.org/name == '${pod.namespace}'`,
  }));
  const nets = chunks(blocksOf(rule), MAX_NETS).map((some) => ({ nets: some }));
  const names = ofKind(rule, 'name').map((one) => one.name);
  const domains = chunks(names, MAX_NAMES).map((some) => ({ domains: some }));
  const protocols = [...new Set(rule.ports.map(({ protocol }) => protocol))];
  return [...pods, ...nets, ...domains].flatMap((place) =>
    protocols.flatMap((protocol): Said[] => {
      const of = { rule, protocol };
      const ranges = rule.ports.filter((range) => range.protocol === protocol);
      if (protocol === 1 || protocol === 58)
        return ranges.map(({ lo }) => {
          const icmp = { type: lo >> 8, code: lo & 255 };
          return [{ action: 'Allow', protocol: protocol === 1 ? 'ICMP' : 'ICMPv6', icmp, destination: place }, of];
        });
      if (!hasPorts(protocol)) return [[{ action: 'Allow', protocol, destination: place }, of]];
      const ports = ranges.map(({ lo, hi }) => (lo === hi ? lo : `${lo}:${hi}`));
      const text = protocolText(ranges[0] as (typeof ranges)[0]);
      return chunks(ports, MAX_PORTS).map((some) => [
        { action: 'Allow', protocol: text, destination: { ...place, ports: some } },
        of,
      ]);
    }),
  );
}
