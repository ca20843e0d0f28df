/** The objects of the end-to-end test, as short as they can be said. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiled } from '../netns/shell.js';
import { IMAGE } from './cluster.js';

const PROBE = readFileSync(join(compiled, 'test/e2e/probe.js'), 'utf8');

export interface PodOptions {
  labels?: Record<string, string>;
  /** Arguments of probe.mjs; by default it only waits to be controlled. */
  args?: readonly string[];
  /** TCP port by name. */
  ports?: Record<string, number>;
  hostNetwork?: boolean;
  readiness?: object;
}

/** A namespace with the probe's program in it. */
export function namespace(name: string, labels: Record<string, string> = {}): object[] {
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { 'egress-e2e': 'yes', ...labels } } },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'probe', namespace: name }, data: { 'probe.mjs': PROBE } },
  ];
}

export function pod(ns: string, name: string, options: PodOptions = {}): object {
  const args = options.args ?? ['serve', name];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: ns, labels: { name, ...options.labels } },
    spec: podSpec(args, options),
  };
}

export function podSpec(args: readonly string[], options: PodOptions = {}): object {
  const ports = Object.entries(options.ports ?? {}).map(([name, containerPort]) => ({ name, containerPort }));
  // `serve` without ports has nothing that keeps it alive.
  const command =
    args[0] === 'serve' && args.length === 2 ? ['sleep', '1000000'] : ['node', '/probe/probe.mjs', ...args];
  return {
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...(options.hostNetwork ? { hostNetwork: true } : {}),
    containers: [
      {
        name: 'probe',
        image: IMAGE,
        imagePullPolicy: 'IfNotPresent',
        command,
        ports,
        ...(options.readiness ? { readinessProbe: options.readiness } : {}),
        volumeMounts: [{ name: 'probe', mountPath: '/probe' }],
      },
    ],
    volumes: [{ name: 'probe', configMap: { name: 'probe' } }],
  };
}

export function service(
  ns: string,
  name: string,
  selector: Record<string, string>,
  port: number,
  target: number | string,
) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: ns },
    spec: { selector, ports: [{ port, targetPort: target }] },
  };
}

/** A NetworkPolicy on egress alone. */
export function policy(ns: string, name: string, podSelector: object, egress: readonly object[]): object {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: ns },
    spec: { podSelector, policyTypes: ['Egress'], egress },
  };
}

export const byName = (name: string) => ({ podSelector: { matchLabels: { name } } });
