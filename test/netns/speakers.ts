/** Bytes over TCP that a pod says by a socket, and a server outside that tells what it got. */
import { spawn } from 'node:child_process';
import type { Host } from './host.js';
import { servers, type World } from './world.js';

const { ip4 } = servers.one;

/** A server that tells for each connection how many bytes it got, and how it ended; answers with `answer` after `after` bytes. */
const SERVER = `
import socket, sys, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(64); print("ready", flush=True)
def serve(c):
    n, how = 0, "end"
    try:
        while True:
            d = c.recv(65536)
            if not d: break
            n += len(d)
            if d.endswith(b"?"): c.sendall(b"yes %d" % n)
    except ConnectionResetError: how = "reset"
    sys.stdout.write(f"{n} {how}" + chr(10))
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
`;

/** A client that sends pieces, each given in hex, with pauses, and tells what it got. */
const CLIENT = `
import socket, sys, time
c = socket.socket(); c.settimeout(4); c.connect((sys.argv[1], int(sys.argv[2])))
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
got = b""
try:
    for piece in sys.stdin.read().split():
        c.sendall(bytes.fromhex(piece))
    while True:
        d = c.recv(4096)
        if not d: break
        got += d
        if d.startswith(b"yes"): break
    how = "ok"
except ConnectionResetError: how = "reset"
except socket.timeout: how = "timeout"
print(how, got.decode("latin1"))
`;

function inNetns(netns: string, code: string, args: readonly string[]) {
  return spawn('nsenter', [`--net=/run/netns/${netns}`, 'python3', '-u', '-c', code, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
}

/** Serves at server one. @returns lines as they come: bytes of a connection, and how it ended */
export async function serve(world: World, port: number): Promise<string[]> {
  const lines: string[] = [];
  const server = inNetns(world.internet.netns, SERVER, [ip4, String(port)]);
  world.onClose(async () => void server.kill());
  await new Promise<void>((resolve, reject) => {
    server.on('close', () => reject(new Error('the server has ended')));
    server.stdout.on('data', (data: Buffer) => {
      for (const line of data.toString().split('\n').filter(Boolean)) {
        if (line === 'ready') resolve();
        else lines.push(line);
      }
    });
  });
  return lines;
}

/** Says it to server one, in these pieces. @returns how it ended, and what was answered */
export async function say(pod: Host, port: number, pieces: readonly Buffer[]): Promise<string> {
  const client = inNetns(pod.netns, CLIENT, [ip4, String(port)]);
  let out = '';
  client.stdout.on('data', (data: Buffer) => {
    out += data.toString();
  });
  client.stdin.end(pieces.map((p) => p.toString('hex')).join('\n'));
  await new Promise((resolve) => client.on('close', resolve));
  return out.trim();
}
