/** Looks at the maps after each single write of the map store. */
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { EndpointTable } from '../../agent/maps/tables/endpoint-table.js';
import { Matcher } from '../../agent/maps/tables/matcher.js';
import { TrieMemory } from '../../agent/maps/tables/trie-memory.js';

/**
 * Calls `look` after each write of the store's, one entry at a time, and `waited` after each grace period. `look` may
 * throw, as if the agent died there.
 * @returns ends it
 */
export function watching(look: () => void, waited: () => void): () => void {
  const undo: (() => void)[] = [];
  const wrap = <T extends object>(target: T, method: keyof T & string, make: (plain: never) => unknown) => {
    const plain = (target as Record<string, unknown>)[method];
    (target as Record<string, unknown>)[method] = make(plain as never);
    undo.push(() => {
      (target as Record<string, unknown>)[method] = plain;
    });
  };
  const after = (plain: (...args: unknown[]) => unknown) =>
    function (this: unknown, ...args: unknown[]) {
      const result = plain.apply(this, args);
      look();
      return result;
    };
  wrap(
    BpfMap.prototype,
    'updateBatch',
    () =>
      function (this: BpfMap, keys: Buffer, values: Buffer, count: number) {
        for (let i = 0; i < count; i++) {
          const [key, value] = [this.keySize, this.valueSize];
          this.update(
            Buffer.from(keys.subarray(i * key, (i + 1) * key)),
            Buffer.from(values.subarray(i * value, (i + 1) * value)),
          );
          look();
        }
      },
  );
  wrap(
    BpfMap.prototype,
    'deleteBatch',
    () =>
      function (this: BpfMap, keys: Buffer, count: number) {
        for (let i = 0; i < count; i++) {
          this.delete(Buffer.from(keys.subarray(i * this.keySize, (i + 1) * this.keySize)));
          look();
        }
      },
  );
  wrap(EndpointTable.prototype, 'put', after);
  wrap(Matcher.prototype, 'write', after);
  wrap(Matcher.prototype, 'flip', after);
  wrap(TrieMemory.prototype, 'store', after);
  wrap(sys, 'waitForPrograms', (plain: () => void) => () => {
    plain();
    waited();
  });
  return () => {
    for (const one of undo.reverse()) one();
  };
}
