/** The objects of the large cluster as an API server sends them: with managed fields, conditions, volumes and all. */
import {
  deploymentName,
  deploymentNamespace,
  deploymentOf,
  httpPort,
  LOCAL_NAMESPACES,
  NAMESPACES,
  namespaceLabels,
  namespaceName,
  nodeIp,
  nodeName,
  PODS,
  podSpec,
  SERVICES,
  templateHash,
  TIERS,
  WATCHED_TIER,
} from './cluster-spec.js';
import { cidr } from './worlds.js';

type Json = Record<string, unknown>;

/** What becomes of a pod in the course of its life; what is not said is as it was made. */
export interface PodState {
  readonly generation?: number;
  readonly phase?: 'Pending' | 'Running';
  readonly tier?: string;
  /** Something in its status that no policy looks at. */
  readonly restarts?: number;
  readonly terminating?: boolean;
  readonly unscheduled?: boolean;
}

const TIME = '2026-11-20T08:15:42Z';

export function podObject(index: number, version: number, state: PodState = {}): Json {
  const spec = podSpec(index, state.generation);
  const deployment = deploymentOf(index);
  const running = (state.phase ?? 'Running') === 'Running';
  const hash = templateHash(deployment ?? 7);
  const port = deployment === undefined ? 9100 : httpPort(deployment);
  const owner =
    deployment === undefined
      ? { kind: 'DaemonSet', name: spec.workload }
      : { kind: 'ReplicaSet', name: `${spec.workload}-${hash}` };
  return {
    metadata: {
      name: spec.name,
      generateName: `${owner.name}-`,
      namespace: spec.namespace,
      uid: spec.uid,
      resourceVersion: String(version),
      creationTimestamp: TIME,
      ...(state.terminating ? { deletionTimestamp: TIME, deletionGracePeriodSeconds: 30 } : {}),
      labels: {
        app: spec.workload,
        'app.kubernetes.io/name': spec.workload,
        'app.kubernetes.io/instance': `${spec.namespace}-${spec.workload}`,
        'app.kubernetes.io/version': `1.${(deployment ?? 0) % 40}.0`,
        'pod-template-hash': hash,
        tier: state.tier ?? spec.tier,
      },
      annotations: {
        'prometheus.io/scrape': 'true',
        'prometheus.io/port': '9090',
        'kubectl.kubernetes.io/restartedAt': TIME,
        'checksum/config': hash.repeat(8),
      },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          ...owner,
          uid: spec.uid.replace(/^./, 'a'),
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
      managedFields: managedFields(spec.uid),
    },
    spec: {
      volumes: [
        { name: 'config', configMap: { name: `${spec.workload}-config`, defaultMode: 420 } },
        { name: 'kube-api-access-x7k2p', projected: { sources: projected(), defaultMode: 420 } },
      ],
      containers: [container('main', spec.workload, port), container('metrics', 'exporter', 9090)],
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: 30,
      dnsPolicy: 'ClusterFirst',
      serviceAccountName: spec.workload,
      serviceAccount: spec.workload,
      ...(state.unscheduled ? {} : { nodeName: nodeName(spec.node) }),
      ...(spec.hostNetwork ? { hostNetwork: true } : {}),
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      schedulerName: 'default-scheduler',
      tolerations: ['not-ready', 'unreachable'].map((key) => ({
        key: `node.kubernetes.io/${key}`,
        operator: 'Exists',
        effect: 'NoExecute',
        tolerationSeconds: 300,
      })),
      priority: 0,
      enableServiceLinks: true,
      preemptionPolicy: 'PreemptLowerPriority',
    },
    status: {
      phase: running ? 'Running' : 'Pending',
      conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({
        type,
        status: running && !state.terminating ? 'True' : 'False',
        lastProbeTime: null,
        lastTransitionTime: TIME,
      })),
      hostIP: nodeIp(spec.node),
      ...(running || spec.hostNetwork ? { podIP: spec.ip, podIPs: [{ ip: spec.ip }] } : {}),
      startTime: TIME,
      containerStatuses: ['main', 'metrics'].map((name) => ({
        name,
        state: running ? { running: { startedAt: TIME } } : { waiting: { reason: 'ContainerCreating' } },
        lastState: {},
        ready: running,
        restartCount: state.restarts ?? 0,
        image: `registry.example.com/${spec.workload}/${name}:1.2.3`,
        imageID: `registry.example.com/${name}@sha256:${hash.repeat(8)}`,
        containerID: `containerd://${spec.uid.replaceAll('-', '').repeat(2)}`,
        started: running,
      })),
      qosClass: 'Burstable',
    },
  };
}

function container(name: string, image: string, port: number): Json {
  return {
    name,
    image: `registry.example.com/${image}/${name}:1.2.3`,
    ports: [{ name: name === 'main' ? 'http' : 'metrics', containerPort: port, protocol: 'TCP' }],
    env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } }],
    resources: { limits: { memory: '256Mi' }, requests: { cpu: '50m', memory: '128Mi' } },
    volumeMounts: [
      { name: 'config', readOnly: true, mountPath: '/etc/app' },
      { name: 'kube-api-access-x7k2p', readOnly: true, mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' },
    ],
    readinessProbe: probe('/readyz', port),
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    imagePullPolicy: 'IfNotPresent',
    securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
  };
}

function probe(path: string, port: number): Json {
  const httpGet = { path, port, scheme: 'HTTP' };
  return { httpGet, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 };
}

function projected(): Json[] {
  return [
    { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
    { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
    {
      downwardAPI: { items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }] },
    },
  ];
}

/** A third of what a pod is on the wire. */
function managedFields(uid: string): Json[] {
  const entry = (manager: string, fieldsV1: Json, more: Json = {}) => ({
    manager,
    operation: 'Update',
    apiVersion: 'v1',
    time: TIME,
    fieldsType: 'FieldsV1',
    fieldsV1,
    ...more,
  });
  const all = (...names: string[]) => Object.fromEntries(names.map((n) => [`f:${n}`, {}]));
  const one = { '.': {}, ...all('image', 'imagePullPolicy', 'name', 'resources', 'terminationMessagePath', 'env') };
  const condition = { '.': {}, ...all('lastProbeTime', 'lastTransitionTime', 'status', 'type') };
  const conditions = ['ContainersReady', 'Initialized', 'Ready'].map((t) => [`k:{"type":"${t}"}`, condition]);
  return [
    entry('kube-controller-manager', {
      'f:metadata': {
        ...all('generateName'),
        'f:labels': { '.': {}, ...all('app', 'app.kubernetes.io/name', 'pod-template-hash', 'tier') },
        'f:ownerReferences': { '.': {}, [`k:{"uid":"${uid}"}`]: {} },
      },
      'f:spec': {
        'f:containers': { 'k:{"name":"main"}': one, 'k:{"name":"metrics"}': one },
        ...all('dnsPolicy', 'enableServiceLinks', 'restartPolicy', 'schedulerName', 'serviceAccountName'),
      },
    }),
    entry(
      'kubelet',
      {
        'f:status': {
          'f:conditions': Object.fromEntries(conditions),
          ...all('containerStatuses', 'hostIP', 'phase', 'podIP', 'podIPs', 'startTime'),
        },
      },
      { subresource: 'status' },
    ),
  ];
}

export function namespaceObject(n: number, version: number): Json {
  const name = namespaceName(n);
  const metadata = { name, uid: `ns-${n}`, resourceVersion: String(version), labels: namespaceLabels(n) };
  return { metadata, spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } };
}

export function nodeObject(n: number, version: number): Json {
  const name = nodeName(n);
  const labels = {
    'kubernetes.io/hostname': name,
    'kubernetes.io/os': 'linux',
    'topology.kubernetes.io/zone': `zone-${n % 3}`,
    'node.kubernetes.io/instance-type': 'm5.4xlarge',
  };
  return {
    metadata: { name, uid: `node-${n}`, resourceVersion: String(version), labels, managedFields: managedFields(name) },
    spec: { podCIDR: `10.${128 + (n >> 8)}.${n & 255}.0/24`, providerID: `cloud:///${name}` },
    status: {
      addresses: [
        { type: 'InternalIP', address: nodeIp(n) },
        { type: 'Hostname', address: name },
      ],
      capacity: { cpu: '16', memory: '64Gi', pods: '110' },
      images: Array.from({ length: 40 }, (_, i) => ({
        names: [`registry.example.com/image-${i}@sha256:${'0123456789abcdef'.repeat(4)}`],
        sizeBytes: 50_000_000 + i,
      })),
    },
  };
}

/** Service n stands before Deployment n. */
export function serviceObject(n: number, version: number): Json {
  const namespace = namespaceName(deploymentNamespace(n));
  const ip = `10.96.${n >> 8}.${n & 255}`;
  return {
    metadata: { name: deploymentName(n), namespace, uid: `svc-${n}`, resourceVersion: String(version) },
    spec: {
      clusterIP: ip,
      clusterIPs: [ip],
      type: 'ClusterIP',
      selector: { app: deploymentName(n) },
      ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 'http' }],
    },
    status: { loadBalancer: {} },
  };
}

/** Indices of the pods behind each Service. */
export function backends(): number[][] {
  const out: number[][] = Array.from({ length: SERVICES }, () => []);
  for (let index = 0; index < PODS; index++) {
    const deployment = deploymentOf(index);
    if (deployment !== undefined && deployment < SERVICES) out[deployment]?.push(index);
  }
  return out;
}

export function sliceObject(n: number, version: number, pods: readonly number[]): Json {
  const name = deploymentName(n);
  return {
    metadata: {
      name: `${name}-${templateHash(n).slice(0, 5)}`,
      namespace: namespaceName(deploymentNamespace(n)),
      uid: `slice-${n}`,
      resourceVersion: String(version),
      labels: { 'kubernetes.io/service-name': name },
    },
    addressType: 'IPv4',
    endpoints: pods.map((index) => {
      const { ip, name: pod, uid, namespace, node } = podSpec(index);
      const targetRef = { kind: 'Pod', namespace, name: pod, uid };
      const conditions = { ready: true, serving: true, terminating: false };
      return { addresses: [ip], conditions, targetRef, nodeName: nodeName(node) };
    }),
    ports: [{ name: 'http', port: httpPort(n), protocol: 'TCP' }],
  };
}

/** Three policies for each namespace with pods on the agent's node, and one each for others. */
export function policyObject(n: number, version: number): Json {
  const local = 3 * LOCAL_NAMESPACES;
  const namespace = namespaceName(n < local ? n % LOCAL_NAMESPACES : (n - local + LOCAL_NAMESPACES) % (NAMESPACES - 1));
  return {
    metadata: {
      name: `policy-${n}`,
      namespace,
      uid: `policy-${n}`,
      resourceVersion: String(version),
      managedFields: managedFields(String(n)),
    },
    spec: {
      podSelector: n % 4 === 0 ? { matchLabels: { app: 'app-0' } } : {},
      policyTypes: ['Ingress', 'Egress'],
      egress: egress(n),
    },
  };
}

function egress(n: number): Json[] {
  const tcp = (...ports: (number | string)[]) => ports.map((port) => ({ protocol: 'TCP', port }));
  const dns = {
    to: [
      {
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
        podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
      },
    ],
    ports: [{ protocol: 'UDP', port: 53 }, ...tcp(53)],
  };
  const namespaces = (labels: Json, pods?: Json) => ({
    namespaceSelector: { matchLabels: labels },
    ...(pods ? { podSelector: pods } : {}),
  });
  const block = (i: number) => `${20 + (i % 200)}.${(i * 7) % 256}.0.0/16`;
  switch (n % 8) {
    case 0:
      return [dns];
    case 1:
      return [dns, { to: [{ podSelector: { matchLabels: { app: 'app-1' } } }], ports: tcp('http') }];
    case 2:
      return [{ to: [namespaces({ env: 'prod' }, { matchLabels: { tier: WATCHED_TIER } })], ports: tcp(8080, 8443) }];
    case 3:
      return [
        {
          to: [{ ipBlock: { cidr: block(n), except: [block(n).replace('0.0/16', '7.0/24')] } }],
          ports: [{ protocol: 'TCP', port: 32_000, endPort: 32_100 }, ...tcp(443)],
        },
      ];
    case 4:
      return [{ to: [namespaces({ team: `team-${n % 50}` })], ports: tcp('http', 'metrics') }];
    case 5:
      return [dns, { to: [{ namespaceSelector: {} }], ports: tcp(443) }];
    case 6:
      return [
        {
          to: [
            {
              namespaceSelector: { matchExpressions: [{ key: 'env', operator: 'In', values: ['staging', 'dev'] }] },
              podSelector: { matchExpressions: [{ key: 'tier', operator: 'NotIn', values: [TIERS[3]] }] },
            },
          ],
          ports: tcp(9090),
        },
      ];
    default:
      return [{ to: Array.from({ length: 20 }, (_, i) => ({ ipBlock: { cidr: cidr(n * 20 + i) } })), ports: tcp(443) }];
  }
}
