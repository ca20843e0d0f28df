/** Writes recommended policies into a directory, a file for each workload. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../../errors.js';
import type { Recommendation } from '../../recommend/base/types.js';

const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

/** @returns the number of files @throws AgentError MANIFEST */
export function writeFiles(result: Recommendation, dir: string): number {
  let count = 0;
  for (const { workload, objects, yaml } of result.workloads) {
    const [namespace = ''] = workload.split('/');
    const name = (objects[0]?.metadata as { name?: unknown } | undefined)?.name;
    if (yaml === '' || typeof name !== 'string') continue;
    // What an agent says is a name in a path only if it is a name.
    if (!NAME.test(namespace) || !NAME.test(name))
      throw new AgentError('MANIFEST', `${JSON.stringify(`${namespace}/${name}`)} is no name for a file`);
    const file = join(dir, namespace, `${name}.yaml`);
    try {
      mkdirSync(join(dir, namespace), { recursive: true });
      writeFileSync(file, yaml);
    } catch (e) {
      throw new AgentError('MANIFEST', `${file} cannot be written: ${(e as Error).message}`, { where: { file } });
    }
    count++;
  }
  return count;
}
