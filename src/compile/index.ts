/**
 * compile(): IR and Snapshot → Image. Pure in what it returns; it only remembers
 * work on rules and policies whose identity has not changed.
 *
 * 1. For each local pod, the policies that select it, tier by tier.
 * 2. The same list of policies is the same set: built once.
 * 3. The atoms of the sets in force, swept into disjoint destination classes.
 * 4. Services as one backend for each kind of backend.
 */
import { matchWorkload } from '../ir/match.js';
import type { Ir, IrPolicy, RuleRef } from '../ir/types.js';
import type { Pod, Snapshot } from '../identity/snapshot.js';
import type { Image, PolicySet } from '../image/types.js';
import { type Atom, makeWorld, type World } from './atoms.js';
import { compileServices } from './services.js';
import { type BuiltSet, buildSet, type Selection } from './sets.js';
import { sweep } from './sweep.js';

const policyNumbers = new WeakMap<IrPolicy, number>();
let nextPolicyNumber = 1;

function policyNumber(policy: IrPolicy): number {
  let n = policyNumbers.get(policy);
  if (n === undefined) policyNumbers.set(policy, (n = nextPolicyNumber++));
  return n;
}

/** Remembers sets between compilations, and what a refused pod had before. */
export class Compiler {
  private sets = new Map<string, BuiltSet>();
  private readonly lastComplete = new Map<string, readonly Selection[]>();

  /** @param local `namespace/name` of the pods that this node enforces. */
  compile(ir: Ir, snapshot: Snapshot, local: readonly string[]): Image {
    const world = makeWorld(snapshot);
    const sets = new Map<number, PolicySet>();
    const atoms = new Map<number, Atom>();
    const rules = new Map<number, RuleRef>();
    const endpoints = new Map<string, number>();
    const refused = new Map<string, string>();
    const kept = new Map<string, BuiltSet>();
    const selectionsBySignature = new Map<string, readonly Selection[]>();

    for (const key of [...local].sort()) {
      const pod = snapshot.pods.get(key);
      if (!pod) continue;
      const signature = JSON.stringify([pod.namespace, pod.hostNetwork, pod.ended, Object.entries(pod.labels).sort()]);
      let selections = selectionsBySignature.get(signature);
      if (!selections) selectionsBySignature.set(signature, (selections = select(ir, pod, snapshot)));
      if (selections.length === 0) {
        endpoints.set(key, 0);
        this.lastComplete.set(key, selections);
        continue;
      }
      const wanted = this.build(selections, world, kept);
      let built: BuiltSet | undefined;
      if ('refused' in wanted) {
        refused.set(key, wanted.refused);
        built = this.fallback(key, selections, world, kept);
      } else {
        this.lastComplete.set(key, selections);
        built = wanted;
      }
      if (!built) {
        endpoints.set(key, 0);
        continue;
      }
      sets.set(built.set.id, built.set);
      for (const atom of built.atoms) atoms.set(atom.id, atom);
      for (const [id, ref] of built.refs) rules.set(id, ref);
      endpoints.set(key, built.set.id);
    }
    this.sets = kept;
    for (const key of this.lastComplete.keys()) if (!endpoints.has(key)) this.lastComplete.delete(key);

    const swept = sweep(
      [...atoms.values()].sort((a, b) => a.id - b.id),
      world,
    );
    const services = compileServices(snapshot, local, swept);
    return { sets, ...swept, services, endpoints, rules, refused };
  }

  private build(
    selections: readonly Selection[],
    world: World,
    kept: Map<string, BuiltSet>,
  ): BuiltSet | { refused: string } {
    const key = selections.map((s) => s.policies.map(policyNumber).join(',')).join(';');
    const known = kept.get(key) ?? this.sets.get(key);
    if (known && !known.named) {
      kept.set(key, known);
      return known;
    }
    const built = buildSet(selections, world);
    if (!('refused' in built)) kept.set(key, built);
    return built;
  }

  /** The last complete set; for a pod that never had one, the tiers' defaults alone: closed, not open. */
  private fallback(
    key: string,
    selections: readonly Selection[],
    world: World,
    kept: Map<string, BuiltSet>,
  ): BuiltSet | undefined {
    const last = this.lastComplete.get(key);
    const closed = selections.map((s) => ({
      tier: s.tier,
      policies: s.policies.slice(0, 1).map((p) => ({ ...p, rules: [] })),
    }));
    for (const candidate of last ? [last, closed] : [closed]) {
      if (candidate.length === 0) return undefined;
      const built = this.build(candidate, world, kept);
      if (!('refused' in built)) return built;
    }
    return undefined;
  }
}

function select(ir: Ir, pod: Pod, snapshot: Snapshot): Selection[] {
  const out: Selection[] = [];
  for (const tier of ir.tiers) {
    const policies = tier.policies.filter((p) => matchWorkload(p.subject, pod, snapshot));
    if (policies.length > 0) out.push({ tier, policies });
  }
  return out;
}
