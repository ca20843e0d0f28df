/** What the makers of recommended policies share. */
import { chunks, type Manifest } from '../../convert/terms/common.js';
import { protocolName } from '../../net/protocol.js';
import type { ModelRule } from '../rules/model.js';
import { single, type Target } from '../rules/resolve.js';
import type { PortRange } from '../base/types.js';

export { chunks, type Manifest };

/** The pods that a policy is for, and its name. */
export interface Subject {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** An object as it is in force, and which rule each item of its `spec.egress` says. */
export interface Written {
  readonly object: Manifest;
  /** By item; undefined: nobody has asked for it. `protocol`: it says what of the rule is of one protocol. */
  readonly items: readonly (Item | undefined)[];
}

export interface Item {
  readonly rule: ModelRule;
  readonly protocol?: number;
}

export type Maker = (subject: Subject, rules: readonly ModelRule[]) => Written[];

/** An item of `spec.egress` with the rule that it says. */
export type Said = readonly [item: object, of: Item | undefined];

export const NAMESPACE_LABEL = 'kubernetes.io/metadata.name';

export function written(object: Manifest, said: readonly Said[]): Written {
  return { object, items: said.map(([, of]) => of) };
}

/** The targets of a rule that are of one kind. */
export function ofKind<K extends Target['kind']>(rule: ModelRule, ...kinds: K[]): Extract<Target, { kind: K }>[] {
  return rule.targets.filter((t): t is Extract<Target, { kind: K }> => (kinds as string[]).includes(t.kind));
}

/** The blocks of a rule's targets, in languages in which a block means nodes too. */
export function blocksOf(rule: ModelRule): string[] {
  return rule.targets.flatMap((target) => {
    if (target.kind === 'block') return [target.cidr];
    return target.kind === 'node' || target.kind === 'api-server' || target.kind === 'local' ? [single(target.ip)] : [];
  });
}

/** `TCP` */
export function protocolText({ protocol }: PortRange): string {
  return protocolName(protocol);
}
