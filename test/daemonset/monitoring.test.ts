/** The alerts and the dashboard of daemonset/monitoring: their unit tests, and what a real Prometheus makes of them that scrapes a real agent. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import type { Agent } from '../netns/agent.js';
import { ClusterWorld } from '../netns/cluster-world.js';
import { DROP_WAIT } from '../netns/host.js';
import { egressPolicy, toServer } from '../netns/policies.js';
import { root, run, until } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { build, type Obj } from './kustomize.js';

t.setTimeout(300_000);
const dir = join(root, 'daemonset');
const RULES = join(dir, 'monitoring/rules.yaml');
const TESTS = join(dir, 'monitoring/rules.test.yaml');
const PROMETHEUS = '127.0.0.1:9090';

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook: string };
}
interface Target {
  expr: string;
  legendFormat: string;
}
interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  datasource?: { uid: string };
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: Target[];
  fieldConfig?: { defaults: { unit: string; thresholds?: { steps: { color: string }[] } } };
}

const text = readFileSync(RULES, 'utf8');
const groups = (parse(text) as { groups: { rules: Rule[] }[] }).groups;
const rules = groups.flatMap((g) => g.rules);
const dashboard = JSON.parse(readFileSync(join(dir, 'monitoring/dashboard.json'), 'utf8')) as { panels: Panel[] };
const panels = dashboard.panels.filter((p) => p.type !== 'row');

t.test('promtool finds the rules well, and each alert fires when it should', async (t) => {
  await run('promtool', ['check', 'rules', RULES]);
  await run('promtool', ['test', 'rules', TESTS]);
  const { tests } = parse(readFileSync(TESTS, 'utf8')) as {
    tests: { name: string; promql_expr_test: { exp_samples?: { labels: string }[] }[] }[];
  };
  t.same(tests.map((x) => x.name).sort(), rules.map((r) => r.alert).sort(), 'a test for each');
  for (const { name, promql_expr_test: cases } of tests) {
    t.ok(
      cases.some((c) => c.exp_samples?.some((s) => s.labels.includes(`alertname="${name}"`))),
      `${name} fires`,
    );
    t.ok(
      cases.some((c) => !c.exp_samples),
      `${name} does not fire`,
    );
  }
});

t.test('each alert says how bad it is, what to do next, and where to read on', (t) => {
  const guide = readFileSync(join(root, 'docs/operations.md'), 'utf8');
  const table = guide.split('\n### Alerts\n')[1]?.split('\n#')[0] ?? '';
  const rows = [...table.matchAll(/^\| `(Egress\w+)` \|/gm)].map(([, name]) => name);
  t.same(rows.sort(), rules.map((r) => r.alert).sort(), 'docs/operations.md has each, and no other');
  for (const { alert, labels, annotations } of rules) {
    t.ok(['critical', 'warning', 'info'].includes(labels.severity), alert);
    t.match(annotations.summary, /\.$/, alert);
    t.match(annotations.description, /Next: kubectl |--names N$/, alert);
    t.equal(annotations.runbook, 'docs/operations.md#alerts', alert);
    t.match(table, new RegExp(`\`${alert}\` \\| ${labels.severity} \\|`), `${alert}: its severity in the table`);
  }
  t.end();
});

t.test('the dashboard: units, its data source is chosen, nothing lies on another', (t) => {
  t.equal(new Set(dashboard.panels.map((p) => p.id)).size, dashboard.panels.length);
  const taken = new Set<string>();
  for (const { title, gridPos } of dashboard.panels) {
    const { x, y, w, h } = gridPos;
    t.ok(x + w <= 24, title);
    for (let i = 0; i < w * h; i++) {
      const cell = `${x + (i % w)}/${y + Math.floor(i / w)}`;
      if (taken.has(cell)) t.fail(`${title}: something is at ${cell}`);
      taken.add(cell);
    }
  }
  for (const { title, description, datasource, targets, fieldConfig } of panels) {
    t.ok(description, title);
    t.equal(datasource?.uid, '$' + '{datasource}', title);
    t.ok(fieldConfig?.defaults.unit, `${title}: a unit`);
    t.ok(targets?.length, title);
    // Names of Grafana's palette, which has each for light and for dark.
    for (const { color } of fieldConfig?.defaults.thresholds?.steps ?? []) t.match(color, /^[a-z-]+$/, title);
  }
  t.end();
});

t.test('the component', (t) => {
  const objects = build(join(dir, 'components/monitoring'));
  const of = (kind: string) => objects.find((o) => o.kind === kind) as Obj;
  t.same(of('PrometheusRule').spec.groups, groups, 'scripts/build has made it of rules.yaml');
  t.same(JSON.parse(of('ConfigMap').data['dashboard.json']), dashboard);
  t.equal(of('ConfigMap').metadata.labels?.grafana_dashboard, '1');
  for (const { kind, metadata } of objects) {
    t.equal(metadata.namespace, 'egress-system', kind);
    t.equal(metadata.labels?.['app.kubernetes.io/part-of'], 'egress-agent', kind);
  }
  const [daemonset] = build(join(dir, 'base')).filter((o) => o.kind === 'DaemonSet') as [Obj];
  const { selector, jobLabel } = of('PodMonitor').spec;
  t.hasStrict(daemonset.spec.template.metadata.labels, selector.matchLabels);
  t.equal(daemonset.spec.template.metadata.labels[jobLabel], 'egress-agent', 'the job that the alerts ask for');
  t.end();
});

/** A scrape as the PodMonitor has it, once by IPv4 and once by IPv6. */
function configuration(): object {
  const monitor = build(join(dir, 'components/monitoring')).find((o) => o.kind === 'PodMonitor') as Obj;
  const [{ path, relabelings }] = monitor.spec.podMetricsEndpoints;
  const snake = (key: string) => key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
  const pods = { 'node-a': '127.0.0.1', 'node-a6': '::1' };
  return {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [RULES],
    scrape_configs: [
      {
        job_name: 'egress-agent',
        metrics_path: path,
        static_configs: Object.entries(pods).map(([node, ip]) => ({
          targets: [node],
          labels: { __meta_kubernetes_pod_ip: ip, __meta_kubernetes_pod_node_name: node },
        })),
        relabel_configs: relabelings.map((r: object) =>
          Object.fromEntries(Object.entries(r).map(([key, value]) => [snake(key), value])),
        ),
      },
    ],
  };
}

async function prometheus(world: World): Promise<void> {
  const config = join(world.dir, 'prometheus.yml');
  writeFileSync(config, JSON.stringify(configuration()));
  await run('promtool', ['check', 'config', config]);
  const data = join(world.dir, 'prometheus');
  const options = [`--config.file=${config}`, `--storage.tsdb.path=${data}`, `--web.listen-address=${PROMETHEUS}`];
  const child = spawn(
    'nsenter',
    [`--net=/run/netns/${world.node.netns}`, 'prometheus', ...options, '--log.level=warn'],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const end = new Promise((resolve) => child.once('close', resolve));
  world.onClose(async () => {
    child.kill('SIGKILL');
    await end;
  });
}

// biome-ignore lint/suspicious/noExplicitAny: Prometheus' answers; each use says which
async function ask(path: string, params: Record<string, string> = {}): Promise<any> {
  const response = await fetch(`http://${PROMETHEUS}/api/v1/${path}?${new URLSearchParams(params)}`);
  const { status, data, error } = (await response.json()) as { status: string; data: unknown; error?: string };
  if (status !== 'success') throw new Error(`${path} ${JSON.stringify(params)}: ${error}`);
  return data;
}

type Labels = Record<string, string>;
const query = async (expr: string): Promise<Labels[]> =>
  (await ask('query', { query: expr })).result.map((r: { metric: Labels }) => r.metric);

/** Each metric of an expression with its matchers. */
const selectors = (expr: string) =>
  [...expr.matchAll(/\b(?:egress_agent_\w+|up\b)(?:\{[^}]*\})?/g)].map(([selector]) => selector);
/** The labels by which it groups and joins. */
const grouped = (expr: string) =>
  [...expr.matchAll(/\b(?:by|on|ignoring|without) \(([^)]*)\)/g)].flatMap(([, list]) => (list as string).split(/,\s*/));
/** As Grafana puts its variables in. */
const filled = (expr: string) => expr.replaceAll('$__rate_interval', '10s').replaceAll('$node', '.*');

t.test('a real Prometheus and a real agent', async (t) => {
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  const cluster = await ClusterWorld.create(world);
  const web = await world.pod('web');
  await world.internet.listen(servers.one.ip4, 443, 'tcp', 'one');
  cluster.tellCni(web);
  cluster.tellPod(web);
  const refused = egressPolicy('refused', 'web', [{ to: [{ ipBlock: { cidr: 'nowhere' } }] } as never]);
  cluster.apply(egressPolicy('web', 'web', [toServer('one', 'tcp/443')]), refused);
  const cni = ['bin', 'conf'].map((name) => join(world.dir, name)) as [string, string];
  for (const place of cni) mkdirSync(place);
  const patch = parse(readFileSync(join(dir, 'components/monitoring/agent.yaml'), 'utf8')) as { value: string }[];
  const agent: Agent = await cluster.agent({
    args: [
      ...['--http-listen=127.0.0.1:4246', ...patch.map((op) => op.value)],
      ...['--gate-bin-dir', cni[0], '--gate-conf-dir', cni[1]],
      ...['--export', `jsonl://${join(world.dir, 'flows.jsonl')}`, '--export', 'syslog+tcp://127.0.0.1:9'],
    ],
  });
  await agent.enforced('default/web');
  await prometheus(world);
  await web.host.request(servers.one.ip4, 443);
  await web.host.request(servers.two.ip4, 443, { timeout: DROP_WAIT });
  const up = 'up{job="egress-agent"} == 1';
  await until('both targets are scraped', async () => (await query(up)).length === 2);
  t.same((await query(up)).map((l) => l.instance).sort(), ['node-a', 'node-a6'], 'by IPv4 and by IPv6');
  await until('a rate can be computed', async () => (await query('rate(egress_agent_flows_total[10s])')).length === 2);

  await t.test('metrics and labels are there', async (t) => {
    const all = [
      ...rules.map(({ alert, expr, annotations }) => {
        const used = Object.values(annotations)
          .join(' ')
          .matchAll(/\$labels\.(\w+)/g);
        return { what: alert, expr, labels: [...used].map(([, label]) => label as string) };
      }),
      ...panels.flatMap(({ title, targets = [] }) =>
        targets.map(({ expr, legendFormat }) => {
          const used = legendFormat.matchAll(/\{\{(\w+)\}\}/g);
          return { what: title, expr: filled(expr), labels: [...used].map(([, label]) => label as string) };
        }),
      ),
    ];
    for (const { what, expr, labels } of all) {
      const found = selectors(expr);
      t.ok(found.length > 0, `${what}: ${expr}`);
      const known = new Set<string>();
      for (const selector of found) {
        const series = (await ask('series', { 'match[]': selector })) as Labels[];
        t.ok(series.length > 0, `${what}: ${selector}`);
        for (const label of series.flatMap(Object.keys)) known.add(label);
        for (const [, label] of selector.matchAll(/[{,](\w+)(?:=|!)/g))
          t.ok(known.has(label as string), `${what}: ${label}`);
      }
      for (const label of [...labels, ...grouped(expr)]) t.ok(known.has(label), `${what}: the label ${label}`);
    }
  });

  await t.test('each query of the dashboard returns data, with the labels of its legend', async (t) => {
    for (const { title, targets = [] } of panels) {
      for (const { expr, legendFormat } of targets) {
        const result = await query(filled(expr));
        t.ok(result.length > 0, `${title}: ${expr}`);
        for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
          t.ok(result[0]?.[label as string], `${title}: ${label}`);
      }
    }
  });

  await t.test('each alert is evaluated; what is wrong here is pending', async (t) => {
    const alerts = async () =>
      (await ask('alerts')).alerts as { labels: Labels; annotations: Record<string, string>; state: string }[];
    await until('the refused policy is seen', async () =>
      (await alerts()).some((a) => a.labels.alertname === 'EgressPolicyRefused'),
    );
    const evaluated = (await ask('rules')).groups.flatMap((g: { rules: object[] }) => g.rules);
    t.equal(evaluated.length, rules.length);
    for (const { name, health, lastError } of evaluated) t.equal(health, 'ok', `${name}: ${lastError ?? ''}`);
    t.same([...new Set((await alerts()).map((a) => a.labels.alertname))], ['EgressPolicyRefused'], 'and nothing else');
    const [first] = await alerts();
    t.match(first?.annotations.summary, /^node-a6? refuses 1 policies\.$/);

    await agent.kill();
    await until('it is away', async () => (await alerts()).some((a) => a.labels.alertname === 'EgressAgentDown'));
    t.notMatch(JSON.stringify(await alerts()), /error expanding/);
  });
});
