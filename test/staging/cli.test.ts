/** The steps in files, as users run them. */
import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { bench, CTL } from '../cli/tool.js';

const WEB = `# ours
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web   # the shop
  namespace: shop
spec:
  podSelector: {}
`;

t.test('a change is printed, and made where that is asked for', async (t) => {
  const { ctl } = bench(t);
  const outside = mkdtempSync(join(tmpdir(), 'egress-agent-files-'));
  t.teardown(() => rmSync(outside, { recursive: true, force: true }));
  const file = join(outside, 'sub/web.yaml');
  mkdirSync(join(outside, 'sub'));
  writeFileSync(file, WEB);
  writeFileSync(join(outside, 'other.yaml'), WEB.replace('name: web', 'name: api'));
  const stage = (...more: string[]) => ctl('stage', 'np/shop/web', '--manifests', outside, ...more);
  const printed = stage();
  t.equal(printed.code, 0, printed.err);
  t.match(printed.out, /^\+ {4}egress-agent\.io\/enforcement: audit$/m);
  t.match(printed.err, /staged: np\/shop\/web in .*web\.yaml: not changed: see --write/);
  t.equal(readFileSync(file, 'utf8'), WEB);
  t.match(JSON.parse(stage('-o', 'json').out), { policy: 'np/shop/web', step: 'stage', diff: /^--- a/ });
  const written = stage('--write');
  t.match(written.err, /: changed/);
  t.match(
    readFileSync(file, 'utf8'),
    /annotations:\n {4}egress-agent\.io\/enforcement: audit\n {2}name: web {3}# the shop/,
  );
  t.match(stage('--write').err, /nothing to change/);
  t.same(readdirSync(join(outside, 'sub')), ['web.yaml'], 'nothing is left beside it');
  const link = join(outside, 'link.yaml');
  symlinkSync(file, link);
  t.equal(ctl('enforce', 'np/shop/web', '--manifests', link, '--write').code, 0);
  t.ok(lstatSync(link).isSymbolicLink(), 'a link stays one');
  t.equal(readFileSync(file, 'utf8'), WEB);
});

t.test('a manifest writes nothing but text to a terminal; a patch is exact', async (t) => {
  const { ctl, write, dir } = bench(t);
  write('web.yaml', WEB.replace('# the shop', '# \u001b[2J'));
  const args = ['stage', 'np/shop/web', '--manifests', 'web.yaml'];
  t.match(ctl(...args).out, /\u001b\[2J/);
  const command = [process.execPath, CTL, ...args].map((arg) => `'${arg}'`).join(' ');
  const shown = execFileSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', cwd: dir });
  t.match(shown, /# \\u001b\[2J/);
  t.notMatch(shown, /\u001b/);
});

t.test('what is wrong is said', async (t) => {
  const { ctl, write } = bench(t);
  write('web.yaml', WEB);
  const fails = (code: number, message: RegExp, ...args: string[]) => {
    const { code: got, err } = ctl(...args);
    t.equal(got, code, args.join(' '));
    t.match(err, message);
  };
  fails(2, /there is no np\/shop\/x/, 'stage', 'np/shop/x', '--manifests', 'web.yaml');
  fails(2, /no kind pod/, 'stage', 'pod/shop/x', '--manifests', 'web.yaml');
  fails(2, /--write is for --manifests/, 'stage', 'np/shop/web', '--write');
  fails(1, /cannot be read/, 'stage', 'np/shop/web', '--manifests', 'none.yaml');
  fails(2, /from 0 to 35/, 'enforce', 'np/shop/web', '--days', '99');
  fails(2, /up to 35d/, 'activity', '--since', '60d');
  fails(1, /no agent is running/, '--socket', '/nowhere/agent.sock', 'impact', 'np/shop/web');
  fails(1, /no agent is running/, '--socket', '/nowhere/agent.sock', 'activity');
});
