/** Clients of HTTPS and HTTP as people have them, each as a command that fetches one URL, and fails if it does not get it. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, run } from '../../netns/shell.js';

/** How a client fetches a URL; `authority` is the path of the certificate to trust. */
export type Fetch = (url: string, authority: string) => readonly string[];

const PYTHON = `
import http.client, ssl, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
if url.scheme == "https":
    c = http.client.HTTPSConnection(url.hostname, url.port, timeout=15, context=ssl.create_default_context(cafile=sys.argv[2]))
else:
    c = http.client.HTTPConnection(url.hostname, url.port, timeout=15)
c.request("GET", url.path)
r = c.getresponse()
print(r.status, r.read())
sys.exit(r.status >= 400)
`;

const NODE_HTTP = `
const [url, ca] = process.argv.slice(1);
const get = require(url.startsWith('https') ? 'https' : 'http').get;
get(url, { ca: require('fs').readFileSync(ca) }, (r) => {
  r.resume();
  r.on('end', () => { console.log(r.statusCode); process.exitCode = r.statusCode >= 400 ? 1 : 0; });
}).on('error', (e) => { console.log(e.code); process.exitCode = 1; });
`;

const NODE_HTTP2 = `
const [url, ca] = process.argv.slice(1);
const { hostname, protocol, pathname } = new URL(url);
const c = require('http2').connect(protocol + '//' + hostname, { ca: require('fs').readFileSync(ca) });
const fail = (e) => { console.log(e.code); process.exit(1); };
c.on('error', fail);
const r = c.request({ ':path': pathname });
r.on('error', () => undefined).on('response', (h) => console.log(h[':status'])).on('end', () => c.close()).resume();
`;

/** With undici, as programs of today do. */
const NODE_FETCH = `
fetch(process.argv[1]).then(async (r) => { console.log(r.status, await r.text()); process.exit(r.ok ? 0 : 1); })
  .catch((e) => { console.log(e.cause?.code); process.exit(1); });
`;

const curl = (...more: string[]): Fetch => {
  return (url, authority) => ['curl', '-sSf', '--noproxy', '*', '-m', '15', '--cacert', authority, ...more, url];
};
const node = (script: string, ...env: string[]): Fetch => {
  return (url, authority) => [
    'env',
    `NODE_EXTRA_CA_CERTS=${authority}`,
    ...env,
    process.execPath,
    '-e',
    script,
    url,
    authority,
  ];
};

/** Those whose HTTP/1 and HTTPS are to be tried. `go` has to be built: see buildGo(). */
export function clients(go: string): Readonly<Record<string, Fetch>> {
  return {
    curl: curl(),
    'curl, HTTP/1.1': curl('--http1.1'),
    'curl, TLS 1.2': curl('--tls-max', '1.2'),
    wget: (url, authority) => [
      ...['wget', '--no-proxy', '-t1', '-T15', '-nv', '-O-', '--ca-certificate', authority],
      url,
    ],
    python: (url, authority) => ['python3', '-c', PYTHON, url, authority],
    'node, http and https': node(NODE_HTTP),
    'node, fetch': node(NODE_FETCH),
    go: (url, authority) => [go, authority, url],
  };
}

/** The client of Node's HTTP/2: of HTTPS only. */
export const nodeHttp2: Fetch = node(NODE_HTTP2);

/** Builds a program in Go: the client, if no other one is named. @returns its path, and what removes it */
export async function buildGo(name = 'fetch.go'): Promise<{ go: string; remove: () => Promise<unknown> }> {
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-go-'));
  const go = join(dir, 'program');
  const source = join(root, 'test/said/live', name);
  await run('go', ['build', '-o', go, source], { env: { GOCACHE: join(dir, 'cache'), GO111MODULE: 'off' } });
  return { go, remove: () => run('rm', ['-rf', dir]) };
}
