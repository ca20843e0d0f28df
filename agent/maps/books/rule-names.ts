import type { RuleRef } from '../../../src/ir/types.js';

/** Names of the rules in the maps, by id: those of the Image in force, and for a while those of earlier Images. */
export class RuleNames {
  #names: Map<number, RuleRef>;
  /** The rules that were added last. */
  #latest: ReadonlyMap<number, RuleRef> | undefined;
  /** There are older names as well. */
  #hasOlder = true;

  constructor(names: ReadonlyMap<number, RuleRef>) {
    this.#names = new Map(names);
  }

  get names(): ReadonlyMap<number, RuleRef> {
    return this.#names;
  }

  add(rules: ReadonlyMap<number, RuleRef>): void {
    if (rules === this.#latest) return;
    for (const [id, ref] of rules) this.#names.set(id, ref);
    this.#latest = rules;
    this.#hasOlder = true;
  }

  /** Forgets all other names: their rules are not in the maps any more. */
  keepOnly(rules: ReadonlyMap<number, RuleRef>): void {
    if (!this.#hasOlder && rules === this.#latest) return;
    this.#names = new Map(rules);
    this.#latest = rules;
    this.#hasOlder = false;
  }
}
