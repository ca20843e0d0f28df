/** The text that the tables keep, three bytes in sixteen bits, is the one that the kernel's matcher walks. */
import t from 'tap';
import { policyOf } from '../bench/names/worlds.js';
import { snapshot } from '../bench/worlds.js';
import { Kernel } from '../engines/engine.js';

/** A name of so many bytes, of all that a name may have. */
function nameOf(length: number): string {
  const every = '0a1b2c3d4e5f6g7h8i9j_klmnopqrstuvwxyz';
  const bytes = Array.from({ length }, (_, i) => every[(i * 5 + length) % every.length] as string);
  for (let i = 7; i < length - 1; i += 11) bytes[i] = i % 2 === 0 ? '.' : '-';
  return bytes.join('');
}

t.test('names of every length', async (t) => {
  const kernel = new Kernel();
  t.teardown(() => kernel.close());
  const lengths = Array.from({ length: 252 }, (_, i) => i + 1);
  const policy = policyOf('names', [
    { peers: [{ kind: 'names', patterns: lengths.map(nameOf) }], ports: [{ protocol: 6, ports: [[443, 443]] }] },
  ]);
  const tier = { name: 'default', order: 0, defaultAction: 'deny' as const, policies: [policy] };
  kernel.use({ ir: { tiers: [tier] }, snapshot: snapshot() });
  kernel.become('default/web');
  const judge = (to: string) => kernel.judge({ from: 'default/web', to, protocol: 6, port: 443 }).verdict;
  const [denied, allowed]: string[][] = [[], []];
  for (const length of lengths) {
    const name = nameOf(length);
    const [own, longer, other] = [1, 2, 3].map((n) => `198.18.${n}.${length}`) as [string, string, string];
    kernel.learn('default/web', { name }, own);
    kernel.learn('default/web', { name: `x${name}` }, longer);
    kernel.learn('default/web', { name: `-${name.slice(1)}` }, other);
    if (judge(own) !== 'allow') denied?.push(name);
    for (const ip of [longer, other]) if (judge(ip) !== 'deny') allowed?.push(name);
  }
  t.same(denied, [], 'its own pattern matches each');
  t.same(allowed, [], 'one byte more, or another one: none does');
});
