import type { Attack } from './attack.js';
import { egressPolicy, toHosts, toServer } from '../netns/policies.js';
import { tcp, udp } from './craft.js';

/** Pairs of addresses whose selectors had one id while ids were plain hashes of what users write. */
const PAIRS = [
  ['25.29.41.89', '26.202.175.108'],
  ['28.236.23.251', '31.132.106.197'],
] as const;

const elsewhere = (name: string, ...cidrs: string[]) => {
  const policy = egressPolicy(name, undefined, [toHosts(cidrs)]) as { metadata: { namespace: string } };
  return { ...policy, metadata: { ...policy.metadata, namespace: 'other' } };
};

export const attack: Attack = {
  name: 'colliding-cidrs',
  tries:
    'Has addresses in policies of its own that were looked for until they have the id of another address that it wants to reach.',
  families: [4],
  policies: () => [
    egressPolicy('attacker', 'attacker', [toServer('one', 'udp/53'), toHosts([PAIRS[0][0]])]),
    elsewhere('names-it', PAIRS[0][1]),
  ],
  async run(at) {
    const [mine, wanted] = PAIRS[0];
    await at.send([
      at.frame(wanted, udp(at.port(), 53, at.forbid('UDP'))),
      at.frame(wanted, tcp(at.port(), 80, at.forbid('TCP'))),
      at.frame(mine, udp(at.port(), 53, at.control('what it was allowed', 'wire'))),
    ]);
    // A policy with both of a pair: it may be refused, but those of others are still put in force.
    at.bed.world.write('pair.yaml', [elsewhere('both', ...PAIRS[1])]);
    at.after(() => at.bed.agent.apply('pair.yaml', []));
    await at.bed.agent
      .apply('after-pair.yaml', [egressPolicy('after', 'attacker', [toHosts(['198.51.100.99'])])])
      .catch(() => at.wrong('a policy with a pair of addresses stops the node’s updates'));
    at.after(() => at.bed.agent.apply('after-pair.yaml', []));
    await at.send([
      at.frame('198.51.100.99', udp(at.port(), 53, at.control('a later policy is in force', 'wire'))),
      at.frame(PAIRS[1][0], udp(at.port(), 53, at.forbid('the pair’s first'))),
      at.frame(PAIRS[1][1], udp(at.port(), 53, at.forbid('the pair’s second'))),
    ]);
  },
};
