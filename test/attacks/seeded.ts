import type { Attack } from './attack.js';

/** Sockets as a server has them once somebody has talked to it, before anybody asked who opened what. */
const STAGE = `
family = socket.AF_INET6 if ":" in two else socket.AF_INET
def made(kind, *to):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.settimeout(3)
    s.bind(("", to[0]))
    if len(to) > 1:
        s.connect((to[1], to[2]))
    return s
sockets = kept.setdefault("sockets", {})
sockets["udp server"] = made(socket.SOCK_DGRAM, 5000)
sockets["udp"] = made(socket.SOCK_DGRAM, 5000, two, 443)
sockets["udp other"] = made(socket.SOCK_DGRAM, 5000, bad, 8080)
sockets["tcp"] = made(socket.SOCK_STREAM, 5001, bad, 8080)
listener = made(socket.SOCK_STREAM, 5001)
listener.listen(8)
sockets["tcp server"] = listener
sockets["dialled"] = made(socket.SOCK_STREAM, 5002, bad, 8080)
late = made(socket.SOCK_STREAM, 8080)
late.listen(8)
sockets["listener"] = late
`;

const ACCEPT = `
kept["sockets"]["accepted"] = kept["sockets"]["listener"].accept()[0]
`;

const SPEAK = `
for name, marker in markers.items():
    try:
        kept["sockets"][name].send(bytes.fromhex(marker))
    except OSError as error:
        result = str(error)
`;

let pods = 0;

export const attack: Attack = {
  name: 'seeded',
  tries: 'Opens sockets before it is attached that look as if denied hosts had opened connections to it.',
  async run(at) {
    const { world, agent } = at.bed;
    const pod = await world.podNamespace(`late-${++pods}`, { style: at.style, labels: { app: 'attacker' } });
    const actor = await at.bed.actor(pod);
    at.after(async () => {
      await actor.hands.close();
      await world.removePod(pod);
      await at.bed.agent.settled();
    });
    const own = actor.address(at.family);
    await actor.program(STAGE, { two: at.address('two'), bad: at.address('bad-far') });
    await at.bed.pod('good-far').host.open(own, 8080);
    await actor.program(ACCEPT);
    world.pods.set(`default/${pod.name}`, pod);
    world.writeCluster();
    await agent.settled();
    await agent.enforced(`default/${pod.name}`);
    const markers = {
      udp: at.forbid('UDP, beside an unconnected socket'),
      'udp other': at.forbid('UDP to a pod, beside an unconnected socket'),
      tcp: at.forbid('TCP, beside a listener on the same port'),
      dialled: at.forbid('TCP, no listener'),
      accepted: at.control('a connection opened to it', 'good-far'),
    };
    const hex = Object.fromEntries(Object.entries(markers).map(([name, m]) => [name, m.toString('hex')]));
    await actor.program(SPEAK, { markers: hex });
  },
};
