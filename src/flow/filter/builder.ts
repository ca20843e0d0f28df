/** Builds FlowFilters from filter options, in their order. */
import { AgentError } from '../../errors.js';
import type { FlowFilter } from '../../proto/messages.js';

type List = Record<string, unknown[]>;
export type Side = 'source' | 'destination';

const SIDES: readonly Side[] = ['source', 'destination'];

/**
 * Builds the filters of one list. An option for either side (`--pod`) needs two filters, one for each side, and both
 * contain the options that apply to no side. A namespace applies to pods and Services that are named without one.
 */
export class FilterBuilder {
  readonly #common: List = {};
  readonly #sides: Record<Side, List> = { source: {}, destination: {} };
  readonly #namespaces: Record<Side | 'either', string[]> = { source: [], destination: [], either: [] };
  readonly #used = new Set<string>();

  /** Records that an option was used. @throws AgentError USAGE if it cannot be combined with an earlier one */
  use(option: string): void {
    this.#used.add(option);
    for (const other of this.#used) {
      if (contradict(option, other) || contradict(other, option))
        throw new AgentError('USAGE', `--${other} and --${option} cannot be combined`, {
          hint: 'give --from-… and --to-… for the two sides, or one option for either side',
        });
    }
  }

  /** Adds a value that may match either side: `ip` stands for `source_ip` and `destination_ip`. */
  either(field: string, value: unknown): void {
    for (const side of SIDES) add(this.#sides[side], `${side}_${field}`, value);
  }

  /** Adds a value for a field that belongs to no side, or to the side that its name says. */
  common(field: string, value: unknown): void {
    add(this.#common, field, value);
  }

  /** Adds a namespace for the pods and Services of one side, or of either. */
  namespace(side: Side | 'either', name: string): void {
    this.#namespaces[side].push(name);
  }

  /** The finished filters: one, or one for each side. @throws AgentError USAGE if a pod is in none of the namespaces */
  filters(): FlowFilter[] {
    const [first, second] = SIDES.map((side) => this.#filter(side));
    const both = JSON.stringify(first) === JSON.stringify(second) ? [first] : [first, second];
    return both.filter((f) => f !== undefined && Object.keys(f).length > 0) as FlowFilter[];
  }

  #filter(side: Side): List {
    const filter: List = { ...this.#common, ...this.#sides[side] };
    for (const end of SIDES) applyNamespaces(filter, end, this.#namespaces[end]);
    applyNamespaces(filter, side, this.#namespaces.either);
    return filter;
  }
}

function add(list: List, field: string, value: unknown): void {
  const values = list[field];
  if (values) values.push(value);
  else list[field] = [value];
}

/**
 * Applies namespaces to a filter, as Hubble's client does: `--namespace shop --pod web` means `shop/web`, and
 * `--namespace shop` alone means all pods of it.
 */
function applyNamespaces(filter: List, side: Side, namespaces: readonly string[]): void {
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

/**
 * Whether two options cannot be combined: `--pod` with `--from-pod`, and `--namespace` with a pod or Service of one
 * side, since it is ambiguous to which side the namespace applies.
 */
function contradict(either: string, oneSide: string): boolean {
  const name = /^(?:from|to)-(.+)$/.exec(oneSide)?.[1];
  return name !== undefined && (name === either || (either === 'namespace' && (name === 'pod' || name === 'service')));
}
