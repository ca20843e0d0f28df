/** egressctl as users run it, in a directory of files that goes when the test ends. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { compiled } from '../netns/shell.js';

export const CTL = join(compiled, 'src/cli/main.js');

export interface Bench {
  readonly dir: string;
  /** Runs egressctl in the directory. */
  ctl(...args: string[]): { code: number | null; out: string; err: string };
  write(file: string, text: string): void;
}

export function bench(t: { teardown(handler: () => void): void }): Bench {
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-tool-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return {
    dir,
    ctl(...args) {
      const r = spawnSync(process.execPath, [CTL, ...args], { encoding: 'utf8', cwd: dir, maxBuffer: 16 << 20 });
      return { code: r.status, out: r.stdout, err: r.stderr };
    },
    write(file, text) {
      mkdirSync(dirname(join(dir, file)), { recursive: true });
      writeFileSync(join(dir, file), text);
    },
  };
}

/** Three pods, one of them behind a Service, and a node. */
export const CLUSTER = `{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: api, labels: {app: api}}, spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: api}, spec: {clusterIP: 10.96.0.1, ports: [{name: web, port: 80, targetPort: http}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: api, labels: {kubernetes.io/service-name: api}}, addressType: IPv4, ports: [{name: web, port: 8080, protocol: TCP}], endpoints: [{addresses: [10.0.0.2]}]}
`;

/** A NetworkPolicy of the pods with app=web. @param egress one rule a line, as YAML */
export function webPolicy(...egress: string[]): string {
  const rules = egress.map((rule) => `  - ${rule}\n`).join('');
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:${rules === '' ? ' []\n' : `\n${rules}`}`;
}

export const TO_API = '{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 8080}]}';
export const TO_WORLD = '{to: [{ipBlock: {cidr: 203.0.113.0/24}}], ports: [{port: 443}]}';
