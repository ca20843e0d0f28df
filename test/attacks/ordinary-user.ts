import type { Attack } from './attack.js';

/** No capability: only what sockets offer to anybody. */
const PROGRAM = `
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        exec(user)
    finally:
        os._exit(0)
`;

const USER = `
six = ":" in denied[0]
family = socket.AF_INET6 if six else socket.AF_INET

def attempt(what):
    try:
        what()
    except OSError:
        pass

def datagram(to, port, data, *options):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        for level, name, value in options:
            s.setsockopt(level, name, value)
        s.sendto(data, (to, port))

def stream(to, port, data, *options):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        for level, name, value in options:
            s.setsockopt(level, name, value)
        s.settimeout(0.05)
        s.sendto(data, 0x20000000, (to, port))  # MSG_FASTOPEN

def ping(to, data):
    with socket.socket(family, socket.SOCK_DGRAM, 58 if six else 1) as s:  # where users may
        s.sendto(bytes([128 if six else 8, 0, 0, 0, 0, 1, 0, 1]) + data, (to, 0))

for to in denied:
    m = bytes.fromhex(markers[to])
    for port in (53, 80, 443, 8080, 8443):
        attempt(lambda: datagram(to, port, m))
        attempt(lambda: datagram(to, port, m * 400))
        attempt(lambda: datagram(to, port, m * 7000))
        attempt(lambda: datagram(to, port, m * 500, (17, 103, 1000)))  # UDP_SEGMENT
        attempt(lambda: datagram(to, port, m, (1, 6, 1), (1, 11, 1)))  # broadcast, no checksum
        attempt(lambda: stream(to, port, m))
        if six:
            attempt(lambda: datagram(to, port, m, (41, 54, bytes([0, 0, 1, 4, 0, 0, 0, 0]))))  # hop-by-hop
            attempt(lambda: datagram(to, port, m, (41, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))))  # destination options
            attempt(lambda: datagram(to, port, m, (41, 57, bytes([0, 2, 0, 1, 0, 0, 0, 0]) + socket.inet_pton(family, to))))
        else:
            route = bytes([131, 7, 4]) + socket.inet_aton(to)
            attempt(lambda: datagram(allowed, 53, m, (0, 4, route)))
            attempt(lambda: stream(allowed, 80, m, (0, 4, route)))
            attempt(lambda: datagram(to, port, m, (0, 1, 0xff), (0, 10, 3)))
    attempt(lambda: ping(to, m))
with socket.socket(family, socket.SOCK_DGRAM) as s:
    s.sendto(bytes.fromhex(control), (allowed, 53))
`;

export const attack: Attack = {
  name: 'ordinary-user',
  tries:
    'Uses only what sockets offer to a user without any capability: options, pings, large and corked datagrams, fast open.',
  async run(at) {
    const markers = Object.fromEntries(at.denied.map((to) => [at.address(to), at.forbid(`to ${to}`).toString('hex')]));
    const control = at.control('what is allowed', 'wire').toString('hex');
    await at.me.program(PROGRAM, {
      user: USER,
      denied: Object.keys(markers),
      markers,
      allowed: at.address('one'),
      control,
    });
  },
};
