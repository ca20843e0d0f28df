/** Manifests as the tools read them: directories and files. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadWorld } from '../../src/tools/world.js';
import { pod } from '../policy/world.js';

t.test('directories and files, each once', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-world-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  mkdirSync(join(dir, 'sub'));
  writeFileSync(join(dir, 'a.yaml'), pod('x/a', '10.0.0.1'));
  writeFileSync(
    join(dir, 'sub/b.json'),
    JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'x', name: 'b' } }),
  );
  writeFileSync(join(dir, 'c.txt'), pod('x/c', '10.0.0.3'));
  const pods = (...paths: string[]) => {
    const { snapshot, problems } = loadWorld(paths.map((path) => join(dir, path)));
    t.same(problems, []);
    return [...snapshot.pods.keys()];
  };
  t.same(pods('.'), ['x/a', 'x/b']);
  t.same(pods('a.yaml', 'a.yaml', 'c.txt'), ['x/a', 'x/c'], 'a file is read whatever it is called');
  t.throws(() => loadWorld([join(dir, 'none')]), { code: 'MANIFEST' });
  execFileSync('mkfifo', [join(dir, 'sub/pipe.yaml')]);
  t.throws(() => loadWorld([dir]), { message: /pipe\.yaml is not a regular file/ }, 'and is not waited for');
  rmSync(join(dir, 'sub/pipe.yaml'));
  symlinkSync('nowhere', join(dir, 'gone.yaml'));
  t.throws(() => loadWorld([dir]), { message: /gone\.yaml cannot be read/ });
});
