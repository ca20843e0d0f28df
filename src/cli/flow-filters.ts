/** Filters under construction: what the options of `egressctl flows` say, in their order, as FlowFilters. */
import { AgentError } from '../errors.js';
import type { FlowFilter } from '../rpc/messages.js';

type List = Record<string, unknown[]>;
export type Side = 'source' | 'destination';

const SIDES: readonly Side[] = ['source', 'destination'];

/**
 * The filters of one list. An option for either side (`--pod`) stands for two filters, one for each side; what is
 * common to both is in both. A namespace is that of the pods and Services named without one.
 */
export class FilterBuilder {
  readonly #common: List = {};
  readonly #sides: Record<Side, List> = { source: {}, destination: {} };
  readonly #namespaces: Record<Side | 'either', string[]> = { source: [], destination: [], either: [] };
  readonly #used = new Set<string>();

  /** Notes that an option was used. @throws AgentError USAGE where it contradicts another */
  use(option: string): void {
    this.#used.add(option);
    for (const other of this.#used) {
      if (contradict(option, other) || contradict(other, option))
        throw new AgentError('USAGE', `--${other} and --${option} cannot be combined`, {
          hint: 'give --from-… and --to-… for the two sides, or one option for either side',
        });
    }
  }

  /** Either side's value, `ip` for `source_ip` and `destination_ip`. */
  either(field: string, value: unknown): void {
    for (const side of SIDES) add(this.#sides[side], `${side}_${field}`, value);
  }

  common(field: string, value: unknown): void {
    add(this.#common, field, value);
  }

  namespace(of: Side | 'either', name: string): void {
    this.#namespaces[of].push(name);
  }

  /** @throws AgentError USAGE where a pod is of another namespace than those given */
  filters(): FlowFilter[] {
    const [first, second] = SIDES.map((side) => this.#filter(side));
    const both = JSON.stringify(first) === JSON.stringify(second) ? [first] : [first, second];
    return both.filter((f) => f !== undefined && Object.keys(f).length > 0) as FlowFilter[];
  }

  #filter(side: Side): List {
    const filter: List = { ...this.#common, ...this.#sides[side] };
    for (const end of SIDES) inNamespaces(filter, end, this.#namespaces[end]);
    inNamespaces(filter, side, this.#namespaces.either);
    return filter;
  }
}

function add(list: List, field: string, value: unknown): void {
  const values = list[field];
  if (values) values.push(value);
  else list[field] = [value];
}

/** As Hubble's client has it: `--namespace shop --pod web` is `shop/web`, and `--namespace shop` alone all its pods. */
function inNamespaces(filter: List, side: Side, namespaces: readonly string[]): void {
  if (namespaces.length === 0) return;
  const [pods, services] = [`${side}_pod`, `${side}_service`];
  if (!filter[pods] && !filter[services]) {
    filter[pods] = namespaces.map((n) => `${n}/`);
    return;
  }
  for (const field of [pods, services]) {
    const names = filter[field] as string[] | undefined;
    if (!names) continue;
    const other = names.find((n) => n.includes('/') && !namespaces.includes(n.slice(0, n.indexOf('/'))));
    if (other !== undefined) throw new AgentError('USAGE', `${other} is not in namespace ${namespaces.join(' or ')}`);
    filter[field] = names.flatMap((n) => (n.includes('/') ? [n] : namespaces.map((ns) => `${ns}/${n}`)));
  }
}

/** `--pod` with `--from-pod`; and `--namespace` with one side's pod or Service: of which side is it the namespace? */
function contradict(either: string, oneSide: string): boolean {
  const name = /^(?:from|to)-(.+)$/.exec(oneSide)?.[1];
  return name !== undefined && (name === either || (either === 'namespace' && (name === 'pod' || name === 'service')));
}
