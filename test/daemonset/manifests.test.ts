/** What is in daemonset/: every variant builds, its objects fit together, and nobody gets more rights than are used. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { DEFAULTS } from '../../agent/options.js';
import { SECRETS } from '../../src/relay/certs/secrets.js';
import { SEE_FLOWS } from '../../src/ui/access/reviews.js';
import { build, containers, type Obj } from './kustomize.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const dir = join(root, 'daemonset');
const READ = ['get', 'list', 'watch'];
/** Each proven: without it the agent ends with an error (see the comments in daemonset/base/daemonset.yaml). */
const CAPABILITIES = ['BPF', 'NET_ADMIN', 'PERFMON', 'SYS_ADMIN', 'NET_BROADCAST'];

const kustomizations = ['base', 'components', 'overlays']
  .flatMap((d) => [d, ...readdirSync(join(dir, d)).map((sub) => join(d, sub))])
  .filter((d) => existsSync(join(dir, d, 'kustomization.yaml')));
const overlays = kustomizations.filter((d) => d.startsWith('overlays/') && d !== 'overlays/uninstall');

const id = (o: Obj) => `${o.kind}/${o.metadata.namespace ?? ''}/${o.metadata.name}`;
const byId = (objects: Obj[]) => Object.fromEntries(objects.map((o) => [id(o), o]));
const workloads = (objects: Obj[]) => objects.filter((o) => o.spec?.template !== undefined);
const named = (objects: Obj[], kind: string, name: string) =>
  objects.find((o) => o.kind === kind && o.metadata.name === name) as Obj;

function kubectl(): string | undefined {
  const command = process.env.KUBECTL ?? 'kubectl';
  try {
    execFileSync(command, ['version', '--client'], { stdio: 'ignore' });
    return command;
  } catch {
    return undefined;
  }
}

t.test('every kustomization builds, and kubectl makes the same of it', async (t) => {
  const command = kubectl();
  if (command === undefined) t.comment('there is no kubectl: only our own reading is tested');
  t.ok(overlays.length >= 4);
  for (const name of kustomizations) {
    const own = build(join(dir, name));
    t.ok(own.length > 0, name);
    t.equal(Object.keys(byId(own)).length, own.length, `${name}: no object twice`);
    if (command === undefined) continue;
    const text = execFileSync(command, ['kustomize', join(dir, name)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    t.same(byId(parseAllDocuments(text).map((d) => d.toJS() as Obj)), byId(own), `${name}: kubectl's`);
  }
});

for (const overlay of [...overlays, 'overlays/uninstall']) {
  t.test(overlay, async (t) => {
    const objects = build(join(dir, overlay));
    const accounts = new Set(objects.filter((o) => o.kind === 'ServiceAccount').map((o) => o.metadata.name));
    for (const o of objects) {
      if (!/^(Namespace|ClusterRole|ClusterRoleBinding)$/.test(o.kind))
        t.equal(o.metadata.namespace, 'egress-system', id(o));
      t.equal(o.metadata.labels?.['app.kubernetes.io/part-of'], 'egress-agent', `${id(o)}: scripts/uninstall finds it`);
    }
    for (const w of workloads(objects)) {
      const { metadata, spec } = w.spec.template;
      if (w.spec.selector) t.hasStrict(metadata.labels, w.spec.selector.matchLabels, `${id(w)}: selects its own pods`);
      if (spec.serviceAccountName === undefined)
        t.equal(spec.automountServiceAccountToken, false, `${id(w)}: no account`);
      else t.ok(accounts.has(spec.serviceAccountName), `${id(w)}: its account is there`);
      const volumes = new Set((spec.volumes ?? []).map((v: { name: string }) => v.name));
      const used = new Set<string>();
      for (const c of containers(w)) {
        if (overlay !== 'overlays/uninstall') {
          t.equal(c.image, 'localhost/egress-agent:dev', `${id(w)} ${c.name}: the image that was loaded`);
          t.equal(c.imagePullPolicy, 'Never', `${id(w)} ${c.name}: and no other`);
        }
        for (const m of c.volumeMounts ?? []) used.add(m.name);
        t.equal(c.securityContext.readOnlyRootFilesystem, true, `${id(w)} ${c.name}: read-only root`);
        if (c.name === 'mount-bpffs') continue;
        t.equal(c.securityContext.allowPrivilegeEscalation, false, `${id(w)} ${c.name}`);
        t.same(c.securityContext.capabilities.drop, ['ALL'], `${id(w)} ${c.name}: capabilities begin with none`);
        t.not(c.securityContext.privileged, true, `${id(w)} ${c.name}: not privileged`);
      }
      t.same([...used].sort(), [...volumes].sort(), `${id(w)}: volumes and mounts fit`);
    }
    for (const b of objects.filter((o) => o.kind.endsWith('RoleBinding'))) {
      t.ok(named(objects, b.roleRef.kind, b.roleRef.name), `${id(b)}: its role is there`);
      for (const s of b.subjects)
        t.ok(accounts.has(s.name) && s.namespace === 'egress-system', `${id(b)}: its subject is there`);
    }
    for (const s of objects.filter((o) => o.kind === 'Service')) {
      const behind = workloads(objects).filter((w) =>
        Object.entries(s.spec.selector).every(([k, v]) => w.spec.template.metadata.labels[k] === v),
      );
      t.equal(behind.length, 1, `${id(s)}: leads to one workload`);
      const ports = containers(behind[0] as Obj).flatMap((c) => (c.ports ?? []).map((p: { name: string }) => p.name));
      for (const p of s.spec.ports) t.ok(ports.includes(p.targetPort), `${id(s)}: port ${p.targetPort}`);
    }
  });
}

t.test('rights: reading, and Events; Secrets for the job alone', async (t) => {
  const objects = build(join(dir, 'components'));
  for (const role of objects.filter((o) => /^(Cluster)?Role$/.test(o.kind))) {
    for (const { apiGroups, resources, resourceNames, verbs } of role.rules) {
      const what = `${id(role)} ${resources}`;
      t.notMatch([...apiGroups, ...resources, ...verbs].join(), /\*/, `${what}: no wildcard`);
      if (resources.includes('events')) t.same([resources, verbs], [['events'], ['create', 'patch']], what);
      else if (resources.includes('secrets')) {
        t.equal(`${role.kind}/${role.metadata.name}`, 'Role/egress-certs', `${what}: in this namespace`);
        if (verbs.includes('create'))
          t.same([verbs, resourceNames], [['create'], undefined], `${what}: has no name yet`);
        else t.same([verbs, resourceNames], [['get', 'update'], Object.values(SECRETS)], `${what}: its own alone`);
      } else
        t.ok(
          verbs.every((v: string) => READ.includes(v)),
          `${what}: ${verbs}`,
        );
    }
  }
});

t.test('the agent', async (t) => {
  const parts = (name: string) => {
    const objects = build(join(dir, name));
    const daemonset = named(objects, 'DaemonSet', 'egress-agent');
    return { objects, daemonset, pod: daemonset.spec.template.spec, agent: daemonset.spec.template.spec.containers[0] };
  };
  const { objects, daemonset, pod, agent } = parts('base');
  t.same(daemonset.spec.updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } });
  t.hasStrict(pod, {
    hostNetwork: true,
    hostPID: false,
    hostIPC: false,
    priorityClassName: 'system-node-critical',
    tolerations: [{ operator: 'Exists' }],
    securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
  });
  t.same(agent.securityContext.capabilities.add, CAPABILITIES);
  for (const [probe, path] of [
    ['startupProbe', '/startupz'],
    ['readinessProbe', '/readyz'],
    ['livenessProbe', '/livez'],
  ] as const) {
    t.same(agent[probe].httpGet, { host: '127.0.0.1', port: 4246, path }, probe);
  }
  t.ok(agent.args.includes('--http-listen=127.0.0.1:4246'), 'the probes ask where it listens');
  t.same(agent.env, [{ name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }]);
  t.equal(
    named(objects, 'Namespace', 'egress-system').metadata.labels?.['pod-security.kubernetes.io/enforce'],
    'privileged',
  );

  const mounts = (c: Obj[string]) => Object.fromEntries(c.volumeMounts.map((m: { name: string }) => [m.name, m]));
  t.equal(mounts(agent).bpffs.mountPropagation, 'HostToContainer');
  t.equal(mounts(agent).netns.mountPropagation, 'HostToContainer', 'namespaces of pods that come later are seen');
  t.hasStrict(mounts(agent)['cni-cache'], { mountPath: DEFAULTS.cniCacheDir, readOnly: true }, 'who is where');
  t.notOk(
    agent.args.some((a: string) => /--(gate|listen|tls)/.test(a)),
    'no gate and no port, unless wanted',
  );

  const flag = (c: Obj[string], name: string) =>
    c.args.find((a: string) => a.startsWith(`--${name}=`))?.slice(name.length + 3);
  for (const name of ['components/gate', 'components']) {
    const { agent, pod } = parts(name);
    t.equal(flag(agent, 'gate-bin-dir'), mounts(agent)['cni-bin'].mountPath, `${name}: CNI programs`);
    t.equal(flag(agent, 'gate-conf-dir'), mounts(agent)['cni-conf'].mountPath, `${name}: CNI configurations`);
    // The names by which scripts/uninstall finds the paths, and overlays set them.
    t.hasStrict(Object.fromEntries(pod.volumes.map((v: { name: string }) => [v.name, v])), {
      'cni-bin': { hostPath: { path: '/opt/cni/bin' } },
      'cni-conf': { hostPath: { path: '/etc/cni/net.d' } },
    });
  }
  for (const name of ['components/tls', 'components/relay', 'components']) {
    const { agent, pod } = parts(name);
    t.equal(flag(agent, 'listen'), ':4245', `${name}: the port`);
    t.equal(flag(agent, 'tls-dir'), mounts(agent).tls.mountPath, `${name}: certificates`);
    t.equal(
      pod.volumes.find((v: { name: string }) => v.name === 'tls').secret.optional,
      true,
      `${name}: starts without`,
    );
  }
});

t.test('the relay with a volume for its history', (t) => {
  const objects = build(join(dir, 'components/relay-history'));
  const pod = named(objects, 'Deployment', 'egress-relay').spec.template.spec;
  const [relay] = pod.containers;
  const [mount] = relay.volumeMounts.filter((m: { name: string }) => m.name === 'history');
  t.ok(relay.args.includes(`--history=${mount.mountPath}/history.duckdb`));
  const { claimName } = pod.volumes.find((v: { name: string }) => v.name === 'history').persistentVolumeClaim;
  t.ok(named(objects, 'PersistentVolumeClaim', claimName));
  t.end();
});

t.test('the web UI', (t) => {
  const objects = build(join(dir, 'components/ui'));
  const { template } = named(objects, 'Deployment', 'egress-ui').spec;
  const pod = template.spec;
  const [ui] = pod.containers;
  t.hasStrict(pod.securityContext, {
    runAsNonRoot: true,
    seccompProfile: { type: 'RuntimeDefault' },
  });
  t.ok(ui.args.includes(`--tls-dir=${ui.volumeMounts[0].mountPath}`));
  t.equal(pod.volumes[0].secret.secretName, SECRETS.ui);
  for (const probe of [ui.readinessProbe, ui.livenessProbe])
    t.equal(probe.httpGet.httpHeaders[0].value, 'localhost', 'a name that is served');

  const own = named(objects, 'ClusterRole', 'egress-ui').rules;
  const rights = own.map((r: { resources: string[]; verbs: string[] }) => `${r.verbs} ${r.resources}`);
  t.same(rights, ['create tokenreviews', 'create subjectaccessreviews', 'list namespaces'], 'asks, and writes nothing');
  const viewer = named(objects, 'ClusterRole', 'egress-ui-viewer');
  t.same(viewer.rules, [{ apiGroups: [SEE_FLOWS.group], resources: [SEE_FLOWS.resource], verbs: [SEE_FLOWS.verb] }]);
  t.same(
    Object.keys(viewer.metadata.labels ?? {}).filter((key) => key.includes('aggregate')),
    [],
    'given by name alone',
  );

  const network = named(objects, 'NetworkPolicy', 'egress-ui').spec;
  t.same(network.policyTypes, ['Ingress', 'Egress']);
  t.hasStrict(template.metadata.labels, network.podSelector.matchLabels);
  t.same(network.ingress[0].ports, [{ port: ui.ports[0].containerPort, protocol: 'TCP' }]);
  const relay = named(objects, 'Deployment', 'egress-relay').spec.template;
  t.hasStrict(relay.metadata.labels, network.egress[0].to[0].podSelector.matchLabels);
  t.equal(network.egress[0].ports[0].port, relay.spec.containers[0].ports[0].containerPort);
  const others = ['base', 'components', 'components/relay'].flatMap((name) => build(join(dir, name)));
  t.notOk(
    others.some((o) => o.metadata.name.startsWith('egress-ui')),
    'off unless it is asked for',
  );
  t.end();
});

t.test('uninstalling', async (t) => {
  const [daemonset] = build(join(dir, 'overlays/uninstall')) as [Obj];
  const pod = daemonset.spec.template.spec;
  t.same(pod.tolerations, [{ operator: 'Exists' }], 'on every node that the agent was on');
  t.same(pod.initContainers[0].command, ['egress-agent', 'detach']);
  const installed = named(build(join(dir, 'components')), 'DaemonSet', 'egress-agent').spec.template.spec;
  const args = (c: Obj[string]) => c.args.filter((a: string) => /^--gate-(bin|conf)-dir=/.test(a));
  t.same(args(pod.initContainers[0]), args(installed.containers[0]), 'the gate goes from where it was put');
  for (const name of ['bpffs', 'cni-bin', 'cni-conf']) {
    const path = (spec: Obj[string]) => spec.volumes.find((v: { name: string }) => v.name === name).hostPath.path;
    t.equal(path(pod), path(installed), name);
  }
});
