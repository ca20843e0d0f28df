/**
 * A real cluster for the end-to-end test: the one of $KUBECONFIG, a kind cluster where Docker runs, or the test node whose
 * scripts stand in $TEST_NODE (default ../shared/kube beside the checkout).
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { run, until, root } from '../netns/shell.js';

export const IMAGE = 'localhost/egress-agent:dev';
export const SYSTEM = 'egress-system';

export interface Place {
  readonly kind: 'kubeconfig' | 'kind' | 'test-node';
  readonly kubeconfig: string;
  readonly kubectl: string;
}

const TEST_NODE = join(root, process.env.TEST_NODE ?? '../shared/kube');

function works(command: string, ...args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore', timeout: 60_000 });
    return true;
  } catch {
    return false;
  }
}

/** Starts what is needed. @param cni of the test node: ptp or bridge; where it runs already with another, it is started anew */
export async function findPlace(cni: 'ptp' | 'bridge'): Promise<Place> {
  const given = process.env.KUBECONFIG;
  if (given !== undefined && given !== '') return { kind: 'kubeconfig', kubeconfig: given, kubectl: 'kubectl' };
  if (works('kind', 'version') && works('docker', 'info')) {
    const kubeconfig = join(tmpdir(), 'egress-agent-e2e.kubeconfig');
    if (!(await run('kind', ['get', 'clusters'])).stdout.split('\n').includes('egress-e2e')) {
      await run('kind', ['create', 'cluster', '--name', 'egress-e2e', '--kubeconfig', kubeconfig, '--wait', '3m']);
    } else await run('kind', ['export', 'kubeconfig', '--name', 'egress-e2e', '--kubeconfig', kubeconfig]);
    return { kind: 'kind', kubeconfig, kubectl: 'kubectl' };
  }
  if (!existsSync(join(TEST_NODE, 'up'))) {
    throw new Error(
      'there is no cluster: set KUBECONFIG, or install kind and Docker, or name the test node in TEST_NODE',
    );
  }
  const place = async (): Promise<Place> => {
    const show = 'echo "$KUBECONFIG"; command -v kubectl';
    const env = { KUBECONFIG: '' };
    const { stdout } = await run(join(TEST_NODE, 'in'), ['sh', '-c', show], { env });
    const [kubeconfig, kubectl] = stdout.trim().split('\n');
    return { kind: 'test-node', kubeconfig: kubeconfig as string, kubectl: kubectl as string };
  };
  const running = await place().catch(() => undefined);
  if (running && works(running.kubectl, '--kubeconfig', running.kubeconfig, 'get', 'nodes') && cniOf(running) === cni) {
    return running;
  }
  // Its output goes to a file: what it leaves running would hold a pipe open.
  await run('sh', [
    '-c',
    `CNI=${cni} exec ${join(TEST_NODE, 'up')} >${join(tmpdir(), 'test-node.log')} 2>&1 </dev/null`,
  ]);
  return place();
}

function cniOf({ kubeconfig }: Place): string {
  try {
    const text = readFileSync(join(dirname(kubeconfig), 'cni/10-pods.conflist'), 'utf8');
    return (JSON.parse(text) as { plugins: { type: string }[] }).plugins[0]?.type ?? '';
  } catch {
    return '';
  }
}

export class Cluster {
  readonly place: Place;
  readonly #dir = mkdtempSync(join(tmpdir(), 'egress-agent-e2e-'));

  constructor(place: Place) {
    this.place = place;
  }

  /** kubectl's output; its errors are this call's. */
  async kubectl(...args: string[]): Promise<string> {
    return (await run(this.place.kubectl, ['--kubeconfig', this.place.kubeconfig, ...args])).stdout;
  }

  async apply(...items: object[]): Promise<void> {
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
    await run(this.place.kubectl, ['--kubeconfig', this.place.kubeconfig, 'apply', '-f', '-'], { input });
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.kubectl(...args, '-o', 'json')) as T;
  }

  /** Puts an image archive into every node's runtime. */
  async load(archive: string): Promise<void> {
    if (this.place.kind === 'kind') await run('kind', ['load', 'image-archive', '--name', 'egress-e2e', archive]);
    else if (this.place.kind === 'test-node') await run(join(TEST_NODE, 'image'), ['load', archive]);
    // A cluster of one's own has the image already, or can pull it.
  }

  /** Applies an overlay of daemonset/overlays and waits until every agent is ready. */
  async install(overlay: string): Promise<void> {
    await this.kubectl('-n', SYSTEM, 'delete', 'job/egress-certs', '--ignore-not-found').catch(() => undefined);
    const running = await this.kubectl('-n', SYSTEM, 'get', 'ds/egress-agent').catch(() => '');
    await this.kubectl('apply', '-k', this.overlay(overlay));
    // The tag is the same, what it names may not be.
    const all = overlay === 'dev' ? ['deploy/egress-relay'] : [];
    if (running !== '') await this.kubectl('-n', SYSTEM, 'rollout', 'restart', 'ds/egress-agent', ...all);
    await this.kubectl('-n', SYSTEM, 'rollout', 'status', 'ds/egress-agent', '--timeout=180s');
  }

  /** As a user would: scripts/uninstall. */
  async uninstall(): Promise<void> {
    const env = { PATH: `${dirname(this.place.kubectl)}:${process.env.PATH}` };
    await run(join(root, 'scripts/uninstall'), ['--kubeconfig', this.place.kubeconfig], { env });
  }

  /** The overlay, with the paths of this cluster's CNI where they are not the usual ones. */
  overlay(name: string): string {
    const source = join(root, 'daemonset/overlays', name);
    const hasGate = name === 'dev' || name === 'dev-gate';
    if (this.place.kind !== 'test-node' || !hasGate) return source;
    const dir = join(this.#dir, name);
    mkdirSync(dir, { recursive: true });
    const volume = (volumeName: string, path: string) => ({ name: volumeName, hostPath: { path, type: 'Directory' } });
    const patch = {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: 'egress-agent', namespace: SYSTEM },
      spec: {
        template: {
          spec: {
            volumes: [
              volume('cni-bin', '/usr/lib/cni'),
              volume('cni-conf', join(dirname(this.place.kubeconfig), 'cni')),
            ],
          },
        },
      },
    };
    writeFileSync(join(dir, 'paths.json'), JSON.stringify(patch));
    const kustomization = { bases: [relative(dir, source)], patchesStrategicMerge: ['paths.json'] };
    writeFileSync(join(dir, 'kustomization.yaml'), JSON.stringify(kustomization));
    return dir;
  }

  /** The name of the agent's pod, once it is ready. */
  agentPod(): Promise<string> {
    return until(
      'an agent is ready',
      async () => {
        const { items } = await this.json<{ items: PodObject[] }>(
          '-n',
          SYSTEM,
          'get',
          'pods',
          '-l',
          'app.kubernetes.io/name=egress-agent',
        );
        return items.find((p) => isReady(p) && !p.metadata.deletionTimestamp)?.metadata.name;
      },
      120_000,
    );
  }

  /** What egressctl says inside an agent's pod. */
  async egressctl(...args: string[]): Promise<string> {
    return this.kubectl('-n', SYSTEM, 'exec', await this.agentPod(), '--', 'egressctl', ...args);
  }

  /** Kills the API server, where that can be done; the answer starts it again. */
  killApiServer(): (() => void) | undefined {
    if (this.place.kind !== 'test-node') return undefined;
    const home = dirname(this.place.kubeconfig);
    const pidFile = join(home, 'run/apiserver.pid');
    const pid = readFileSync(pidFile, 'utf8').trim();
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    const cwd = readlinkSync(`/proc/${pid}/cwd`);
    const net = `/proc/${readFileSync(join(home, 'run/kubelet.pid'), 'utf8').trim()}/ns/net`;
    process.kill(Number(pid), 'SIGKILL');
    return () => {
      const log = openSync(join(home, 'log/apiserver-again.log'), 'w');
      const child = spawn('nsenter', [`--net=${net}`, ...command], {
        cwd,
        detached: true,
        stdio: ['ignore', log, log],
      });
      writeFileSync(pidFile, String(child.pid));
      child.unref();
      closeSync(log);
    };
  }

  /** The node's CNI configurations, one text. */
  async gateFiles(): Promise<string> {
    return (await run('sh', ['-c', `cat ${join(dirname(this.place.kubeconfig), 'cni')}/*`])).stdout;
  }

  close(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

export interface PodObject {
  metadata: { name: string; namespace: string; deletionTimestamp?: string };
  spec: { nodeName?: string };
  status: { podIP?: string; phase?: string; conditions?: { type: string; status: string }[] };
}

export function isReady(pod: PodObject): boolean {
  return pod.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;
}

/** A probe in a pod, or another program that answers line by line, driven over one `kubectl exec`. */
export class Control {
  #next = 1;
  readonly #waiting = new Map<number, (result: unknown) => void>();
  readonly #child;

  constructor({ place }: Cluster, namespace: string, pod: string, command = ['node', '/probe/probe.mjs', 'control']) {
    const args = ['--kubeconfig', place.kubeconfig, '-n', namespace, 'exec', '-i', pod, '--'];
    this.#child = spawn(place.kubectl, [...args, ...command], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let text = '';
    this.#child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const { id, result } = JSON.parse(text.slice(0, end)) as { id: number; result: unknown };
        text = text.slice(end + 1);
        this.#waiting.get(id)?.(result);
        this.#waiting.delete(id);
      }
    });
    this.#child.on('close', () => {
      for (const done of this.#waiting.values()) done('exec ended');
    });
  }

  ask<T = string>(op: string, rest: object): Promise<T> {
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#waiting.set(id, (result) => resolve(result as T));
      this.#child.stdin.write(`${JSON.stringify({ id, op, ...rest })}\n`);
    });
  }

  tcp(host: string, port: number, timeout = 1500): Promise<string> {
    return this.ask('tcp', { host, port, timeout });
  }

  udp(host: string, port: number, timeout = 1500): Promise<string> {
    return this.ask('udp', { host, port, timeout });
  }

  close(): void {
    this.#child.stdin.end();
    this.#child.kill();
  }
}
