import type { At } from './at.js';
import type { Attack } from './attack.js';
import { tcp, udp } from './craft.js';

const TRIES = 16;

/** An ordinary user's program: no capability is asked for. */
const ORDINARY = `
def talk(kind, port, to, text):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.settimeout(0.05)
    s.bind(("", port))
    try:
        s.connect(to)
        s.send(text)
    except OSError:
        pass
    s.close()

family = socket.AF_INET6 if ":" in service else socket.AF_INET
for port in ports:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for address in denied:
            talk(kind, port, (address, 8080), b"direct" + bytes.fromhex(marker))
        talk(kind, port, (service, 80), bytes.fromhex(marker))
`;

/** Directly to each denied backend, then to the Service, from one port. */
function pairs(at: At, dst: string, marker: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let i = 0; i < TRIES; i++) {
    const port = at.port();
    for (const l4 of [udp, tcp]) {
      for (const bad of at.denied.slice(0, 3)) frames.push(at.frame(at.address(bad), l4(port, 8080, marker)));
      frames.push(at.frame(dst, l4(port, 80, marker)));
    }
  }
  return frames;
}

export const attack: Attack = {
  name: 'service-port-reuse',
  tries: 'Asks for a denied backend from a port, then from the same port for the Service that it is behind.',
  async run(at) {
    const control = at.control('all backends allowed', `good-${at.style}`);
    const good = Array.from({ length: 24 }, () => at.frame(at.address('all'), udp(at.port(), 80, control)));
    const raw = at.forbid('raw, UDP and TCP', at.atDenied);
    await at.send([...good, ...pairs(at, at.address('some'), raw)]);
    const masqueraded = at.forbid('raw, from behind the node’s address', at.atDenied);
    await at.bed.masqueradeServices(true);
    await at.send(pairs(at, at.address('some'), masqueraded));
    await at.bed.masqueradeServices(false);
    await at.me.program(ORDINARY, {
      marker: at.forbid('an ordinary user’s sockets', at.atDenied).toString('hex'),
      ports: Array.from({ length: at.short ? 4 : 8 }, () => at.port()),
      denied: at.denied.slice(0, 3).map((name) => at.address(name)),
      service: at.address('some'),
    });
    const stale = at.forbid('the direct flow is of an older epoch', at.atDenied);
    const frames = pairs(at, at.address('some'), stale);
    await at.send(frames.filter((_, i) => i % 4 !== 3));
    await at.bed.newEpoch();
    await at.send(frames.filter((_, i) => i % 4 === 3));
  },
};
