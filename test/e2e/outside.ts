/**
 * What stands outside of the cluster, and the cluster's own DNS: servers on addresses that no pod has, and a resolver (dnsmasq) behind
 * the Service kube-system/kube-dns that knows them by name. On the test node alone: another cluster has a DNS of its own, whose names
 * are not a test's to choose.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { compiled, run, until } from '../netns/shell.js';
import { type Cluster, isReady, type PodObject } from './cluster.js';

const NETNS = 'egress-e2e-out';
/** The node's end of the link, and what the servers listen on (RFC 5737). */
const GATEWAY = '198.51.100.1';
export const API = '198.51.100.10';
export const SHOP_API = '198.51.100.11';
export const ELSEWHERE = '198.51.100.20';
const ADDRESSES = [API, SHOP_API, ELSEWHERE];
export const TLS_PORT = 8443;
export const HTTP_PORT = 8000;

const DNS = 'kube-system';
/** The address that the kubelet writes into each pod's resolv.conf. */
const DNS_VIP = '10.96.0.10';

const RECORDS = [
  `--host-record=api.e2e.example,${API}`,
  `--host-record=shop.api.e2e.example,${SHOP_API}`,
  `--host-record=elsewhere.e2e.example,${ELSEWHERE}`,
  `--host-record=odd.example,${ELSEWHERE}`,
  '--cname=www.e2e.example,api.e2e.example',
];

export interface Outside {
  /** What reached the servers so far: `tls NAME` for a hello, `GET HOST/PATH` for a request. */
  readonly received: readonly string[];
  close(): Promise<void>;
}

/** @returns undefined: this cluster has no such place */
export async function makeOutside(cluster: Cluster): Promise<Outside | undefined> {
  if (cluster.place.kind !== 'test-node') return undefined;
  const node = nodeNamespace(cluster);
  const inNode = (...args: string[]) => run('nsenter', [node, ...args]);
  await remove();
  await run('ip', ['netns', 'add', NETNS]);
  const inside = (...args: string[]) => run('ip', ['netns', 'exec', NETNS, ...args]);
  await inside('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'e2e-out');
  await inside('ip', 'link', 'set', 'e2e-out', 'netns', pidOf(cluster));
  await inNode('ip', 'addr', 'add', `${GATEWAY}/24`, 'dev', 'e2e-out');
  await inNode('ip', 'link', 'set', 'e2e-out', 'up');
  for (const address of ADDRESSES) await inside('ip', 'addr', 'add', `${address}/24`, 'dev', 'eth0');
  for (const device of ['lo', 'eth0']) await inside('ip', 'link', 'set', device, 'up');
  await inside('ip', 'route', 'add', 'default', 'via', GATEWAY);
  const probe = join(compiled, 'test/e2e/probe.js');
  const dir = mkdtempSync(join(tmpdir(), 'egress-e2e-outside-'));
  const certificate = await certificateIn(dir);
  const ports = ['tcp:8080', `tls:${TLS_PORT}:${certificate}`, `http:${HTTP_PORT}`];
  const server = spawn('ip', ['netns', 'exec', NETNS, process.execPath, probe, 'serve', 'outside', ...ports], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const received: string[] = [];
  createInterface({ input: server.stdout }).on('line', (line) => received.push(line));
  await cluster.apply(...dnsObjects());
  await until('the DNS pod is ready', () => dnsReady(cluster), 90_000);
  return {
    received,
    close: async () => {
      server.kill();
      rmSync(dir, { recursive: true, force: true });
      await cluster.kubectl(
        '-n',
        DNS,
        'delete',
        'service/kube-dns',
        'pod/e2e-dns',
        '--ignore-not-found',
        '--wait=false',
      );
      await inNode('ip', 'link', 'del', 'e2e-out').catch(() => undefined);
      await remove();
    },
  };
}

/** A key and a certificate that nobody checks, in one file. */
async function certificateIn(dir: string): Promise<string> {
  const file = join(dir, 'server.pem');
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run('openssl', ['req', '-x509', ...key, '-subj', '/CN=e2e', '-keyout', file, '-out', join(dir, 'cert.pem')]);
  await run('sh', ['-c', `cat ${join(dir, 'cert.pem')} >> ${file}`]);
  return file;
}

async function dnsReady(cluster: Cluster): Promise<boolean> {
  const { items } = await cluster.json<{ items: PodObject[] }>('-n', DNS, 'get', 'pods', '-l', 'k8s-app=kube-dns');
  return items.length > 0 && items.every(isReady);
}

async function remove(): Promise<void> {
  await run('ip', ['netns', 'del', NETNS], { check: false });
}

function pidOf({ place }: Cluster): string {
  return readFileSync(join(dirname(place.kubeconfig), 'run/kubelet.pid'), 'utf8').trim();
}

function nodeNamespace(cluster: Cluster): string {
  return `--net=/proc/${pidOf(cluster)}/ns/net`;
}

/** The node's file system is this machine's, and has a dnsmasq; the test's image has none. */
function dnsObjects(): object[] {
  const labels = { 'k8s-app': 'kube-dns' };
  const command = ['chroot', '/host', '/usr/sbin/dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null'];
  const options = ['--no-resolv', '--no-hosts', '--user=root', '--pid-file=', ...RECORDS];
  const port = (name: string, protocol: string) => ({ name, protocol, port: 53, targetPort: 53 });
  return [
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'e2e-dns', namespace: DNS, labels },
      spec: {
        terminationGracePeriodSeconds: 0,
        automountServiceAccountToken: false,
        dnsPolicy: 'Default',
        containers: [
          {
            name: 'dnsmasq',
            image: 'localhost/egress-agent:dev',
            imagePullPolicy: 'IfNotPresent',
            command: [...command, ...options],
            securityContext: { capabilities: { add: ['NET_ADMIN', 'SYS_CHROOT'] } },
            readinessProbe: { tcpSocket: { port: 53 }, periodSeconds: 1 },
            volumeMounts: [{ name: 'host', mountPath: '/host', readOnly: true }],
          },
        ],
        volumes: [{ name: 'host', hostPath: { path: '/' } }],
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'kube-dns', namespace: DNS, labels },
      spec: { clusterIP: DNS_VIP, selector: labels, ports: [port('dns', 'UDP'), port('dns-tcp', 'TCP')] },
    },
  ];
}
