/** What status says of the flow table: the programs' counts, each from its own index, and what endpoints hold. */
import t from 'tap';
import { FlowRoom } from '../../agent/serve/flow-room.js';
import { ENUMS } from '../../src/image/layout.gen.js';

/** Of three processors. */
function counters(values: Partial<Record<keyof typeof ENUMS.ea_counter, number[]>>) {
  const byIndex = new Map(Object.entries(values).map(([k, v]) => [ENUMS.ea_counter[k as keyof typeof values], v]));
  return {
    lookupPerCpu: (key: Buffer) =>
      (byIndex.get(key.readUInt32LE() as never) ?? [0, 0, 0]).map((n) => {
        const value = Buffer.alloc(8);
        value.writeBigUInt64LE(BigInt(n));
        return value;
      }),
  };
}

t.test('counts of all processors', async (t) => {
  const counts = counters({
    EA_COUNT_FLOWS_NOT_STORED: [1, 0, 2 ** 40],
    EA_COUNT_FLOWS_EVICTED: [0, 20, 3],
    EA_COUNT_FLOWS_BUSY: [4, 0, 0],
    EA_COUNT_FLOWS_CREATED: [100, 100, 100],
  });
  const room = new FlowRoom({ share: 64, holdings: () => 0 }, counts, () => undefined);
  t.same(room.view(), { share: 64, notStored: 2 ** 40 + 1, evicted: 23, busy: 4 });
});

t.test('what an endpoint holds stands at its slot', async (t) => {
  const held = [7, 0xffff_ffff, 70_000];
  const room = new FlowRoom({ share: 64, holdings: (slot) => held[slot] ?? 0 }, counters({}), (ifindex) =>
    ifindex < 10 ? undefined : ifindex - 10,
  );
  t.same(
    [9, 10, 11, 12].map((ifindex) => room.holdings(ifindex)),
    [0, 7, 0, 70_000],
    'a count that is just then below nothing is nothing',
  );
});
