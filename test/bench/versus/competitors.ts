/** What else filters the packets of pods, each as its users write it. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConstant } from '../../../agent/kernel/calls.js';
import { sys } from '../../../agent/kernel/libbpf/sys.js';
import { inNetns } from '../../../agent/netlink/netlink.js';
import { createLink, probeTcx } from '../../../agent/hooks/tcx.js';
import { ALLOWED, type Bed, DENIED, PODS, SWITCHED } from './bed.js';

export interface Competitor {
  readonly name: string;
  /** It judges each packet by its rules; those that do not are what the others are compared with. */
  readonly filters: boolean;
  /** Before it is asked to load anything: starts what it needs. */
  prepare?(bed: Bed): Promise<void>;
  /** Lets pods reach these networks, and nothing else. Rejects with the kernel's word where that cannot be done. */
  load(bed: Bed, networks: readonly string[]): Promise<void>;
  /** Adds SWITCHED to the networks, or takes it out. Returns when the command has ended. */
  change(bed: Bed, allow: boolean): Promise<void>;
  unload(bed: Bed): Promise<void>;
  /** MiB of its process. */
  resident?(): number;
  /** CPU time of its process so far, milliseconds. */
  busy?(): number;
  /** Its process. */
  pid?(): number | undefined;
}

export const none: Competitor = {
  name: 'no filter',
  filters: false,
  load: async () => undefined,
  change: async () => undefined,
  unload: async () => undefined,
};

const FLOOR = `
__attribute__((section("tc"), used)) int floor_program(void *skb) { return -1; }
char _license[] __attribute__((section("license"), used)) = "GPL";
`;

/** Device, and side of it. */
type Hook = readonly [string, 'ingress' | 'egress'];

/** Where the agent has programs. */
function hooksOf(bed: Bed): Hook[] {
  return [
    ...bed.pods.flatMap(({ device }): Hook[] => [
      [device, 'ingress'],
      [device, 'egress'],
    ]),
    ['eth0', 'egress'],
  ];
}

let links: number[] = [];

/** A program that returns at once, at each hook that the agent has, attached as the agent's: what hooks cost by themselves. */
export const floor: Competitor = {
  name: 'tc BPF that returns at once',
  filters: false,
  async load(bed) {
    if (!probeTcx()) return loadFloor(bed);
    const devices = JSON.parse(await bed.node('ip', ['-j', 'link', 'show'])) as { ifname: string; ifindex: number }[];
    const indexOf = (name: string) => devices.find((d) => d.ifname === name)?.ifindex ?? 0;
    const node = openSync(`/run/netns/${bed.world.node.netns}`, 'r');
    const program = loadConstant(-1);
    try {
      links = inNetns(node, () => hooksOf(bed).map(([device, side]) => createLink(program, indexOf(device), side)));
    } finally {
      sys.close(program);
      closeSync(node);
    }
  },
  change: async () => undefined,
  async unload(bed) {
    if (!probeTcx()) return unloadFloor(bed);
    for (const link of links) sys.close(link);
    links = [];
  },
};

/** Kernels without tcx: clsact filters. */
async function loadFloor(bed: Bed): Promise<void> {
  const object = join(bed.world.dir, 'floor.o');
  writeFileSync(join(bed.world.dir, 'floor.c'), FLOOR);
  execFileSync('clang', ['-target', 'bpf', '-O2', '-g', '-c', join(bed.world.dir, 'floor.c'), '-o', object]);
  for (const device of new Set(hooksOf(bed).map(([name]) => name)))
    await bed.node('tc', ['qdisc', 'add', 'dev', device, 'clsact']);
  for (const [device, side] of hooksOf(bed))
    await bed.node('tc', ['filter', 'add', 'dev', device, side, 'bpf', 'da', 'obj', object, 'sec', 'tc']);
}

async function unloadFloor(bed: Bed): Promise<void> {
  for (const device of new Set(hooksOf(bed).map(([name]) => name)))
    await bed.node('tc', ['qdisc', 'del', 'dev', device, 'clsact']).catch(() => undefined);
}

/** One chain: what belongs to a known connection passes, then a rule for each network, then the drop. */
function chain(name: string, command: string): Competitor {
  return {
    name,
    filters: true,
    async load(bed, networks) {
      const rules = networks.map((network) => `-A EGRESS -d ${network} -j ACCEPT`);
      const known = '-A EGRESS -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT';
      const text = [
        '*filter',
        ':FORWARD ACCEPT',
        ':EGRESS - [0:0]',
        `-A FORWARD -s ${PODS} -j EGRESS`,
        known,
        ...rules,
      ];
      await bed.node(`${command}-restore`, [], [...text, '-A EGRESS -j DROP', 'COMMIT', ''].join('\n'));
    },
    async change(bed, allow) {
      const where = allow ? ['-I', 'EGRESS', '2'] : ['-D', 'EGRESS'];
      await bed.node(command, ['-w', ...where, '-d', SWITCHED, '-j', 'ACCEPT']);
    },
    async unload(bed) {
      await bed.node(command, ['-F']);
      await bed.node(command, ['-X']);
    },
  };
}

const ipset: Competitor = {
  name: 'ipset',
  filters: true,
  async load(bed, networks) {
    const entries = networks.map((network) => `add allowed ${network}`);
    const create = `create allowed hash:net family inet hashsize 65536 maxelem ${networks.length + 1024}`;
    await bed.node('ipset', ['restore'], [create, ...entries, ''].join('\n'));
    await bed.node('iptables-legacy-restore', [], SET_RULES);
  },
  change: async (bed, allow) => {
    await bed.node('ipset', [allow ? 'add' : 'del', 'allowed', SWITCHED]);
  },
  async unload(bed) {
    await bed.node('iptables-legacy', ['-F']);
    await bed.node('iptables-legacy', ['-X']);
    await bed.node('ipset', ['destroy', 'allowed']);
  },
};

const SET_RULES = [
  ...['*filter', ':FORWARD ACCEPT', ':EGRESS - [0:0]', `-A FORWARD -s ${PODS} -j EGRESS`],
  '-A EGRESS -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT',
  ...['-A EGRESS -m set --match-set allowed dst -j ACCEPT', '-A EGRESS -j DROP', 'COMMIT', ''],
].join('\n');

/** nftables, with a set of networks or with a map from networks to verdicts. */
function nftables(
  name: string,
  how: { declare: string; element: (network: string) => string; rule: string },
): Competitor {
  return {
    name,
    filters: true,
    async load(bed, networks) {
      const elements = networks.map(how.element).join(',\n');
      const text = `table ip bench {
        ${how.declare} { ${how.declare.startsWith('set') ? 'type ipv4_addr' : 'type ipv4_addr : verdict'}; flags interval; elements = { ${elements} } }
        chain egress { ct state established,related accept; ${how.rule}; drop; }
        chain forward { type filter hook forward priority 0; policy accept; ip saddr ${PODS} jump egress; }
      }`;
      await bed.node('nft', ['-f', '-'], text);
    },
    change: async (bed, allow) => {
      const element = allow ? how.element(SWITCHED) : SWITCHED;
      await bed.node('nft', [allow ? 'add' : 'delete', 'element', 'ip', 'bench', 'allowed', `{ ${element} }`]);
    },
    async unload(bed) {
      await bed.node('nft', ['delete', 'table', 'ip', 'bench']);
    },
  };
}

export const others: readonly Competitor[] = [
  chain('iptables (legacy)', 'iptables-legacy'),
  chain('iptables (nft)', 'iptables-nft'),
  ipset,
  nftables('nftables set', { declare: 'set allowed', element: (n) => n, rule: 'ip daddr @allowed accept' }),
  nftables('nftables verdict map', {
    declare: 'map allowed',
    element: (n) => `${n} : accept`,
    rule: 'ip daddr vmap @allowed',
  }),
];

/** Does it do what it was told? @returns what it does wrong */
export async function wrong(bed: Bed, competitor: Competitor): Promise<string | undefined> {
  if (!(await bed.passes(ALLOWED))) return 'what is allowed does not pass';
  if (competitor.filters && (await bed.passes(DENIED))) return 'what is not allowed passes';
  return undefined;
}
