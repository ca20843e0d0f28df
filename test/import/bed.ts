/** Imports lists from files of their own, and asks the policies that come out. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { policiesIn } from '../../src/convert/text.js';
import { toIr } from '../../src/dialects/index.js';
import { type Imported, importLists, remarkText } from '../../src/import/index.js';
import type { Source, Target } from '../../src/import/names.js';
import type { Kind } from '../../src/import/base/speech.js';
import { saidOf, worldOf } from '../../src/import/proof.js';
import type { Subject } from '../../src/import/targets/common.js';
import { evaluate } from '../../src/ir/evaluate.js';

export const SUBJECT: Subject = {
  name: 'imported',
  namespace: 'shop',
  labels: { app: 'web' },
  resolvers: [{ namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }],
  priority: 500,
  connections: false,
};

/** A connection to an address that was learned for a name, or a query for it. */
export interface Ask {
  readonly name?: string | undefined;
  /** How it says it; by default in TLS on port 443 and in HTTP elsewhere, and not at all if there is no name. */
  readonly by?: Kind;
  /** Another name in place of it; null: none. */
  readonly says?: string | null;
  readonly to?: string;
  readonly protocol?: number;
  readonly port?: number;
  readonly query?: string;
}

export interface Result extends Imported {
  /** The refusals and notes as text, without the directory. */
  readonly no: string;
  readonly told: string;
  allows(ask: Ask): boolean;
}

/** A name far from all lists, an address that no list has. */
export const FAR = '198.51.100.77';
const DNS_SERVER = '192.0.2.53';

export class Bed {
  readonly dir = mkdtempSync(join(tmpdir(), 'egress-agent-import-'));

  constructor(t: { teardown(handler: () => void): void }) {
    t.teardown(() => rmSync(this.dir, { recursive: true, force: true }));
  }

  write(file: string, text: string | Uint8Array): string {
    const path = join(this.dir, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return path;
  }

  /** @param files text of files by name; all but those that begin with `list` are imported */
  run(
    from: Source,
    files: Readonly<Record<string, string>>,
    to: Target = 'cilium',
    subject: Partial<Subject> = {},
    assumed: Readonly<Record<string, boolean>> = {},
  ): Result {
    const paths = Object.entries(files).map(([file, text]) => this.write(file, text));
    const main = paths.filter((path) => !path.startsWith(join(this.dir, 'list')));
    const whole = { ...SUBJECT, ...subject };
    const result = importLists(from, main, to, whole, new Map(Object.entries(assumed)));
    // Whatever is wider than the source was made wrongly, even if it is not printed.
    if (result.proof.wide !== undefined) throw new Error(`${to} is wider: ${result.proof.wide}`);
    const { policies } = policiesIn(result.texts.join(''));
    const snapshot = worldOf(whole, policies);
    const { ir } = toIr(snapshot);
    const [pod = ''] = snapshot.pods.keys();
    const text = (list: Imported['notes']) => list.map(remarkText).join('\n').replaceAll(`${this.dir}/`, '');
    return {
      ...result,
      no: text(result.refused),
      told: text(result.notes),
      allows({
        name,
        says,
        query,
        to = query === undefined ? FAR : DNS_SERVER,
        protocol = 6,
        port = query === undefined ? 443 : 53,
        by = name === undefined || protocol !== 6 ? 'other' : port === 443 ? 'tls' : 'http',
      }) {
        const learned = new Map([[pod, new Map([[to, name === undefined ? [] : [{ name }]]])]]);
        const said = saidOf({ kind: by, name: says === undefined ? name : (says ?? undefined) });
        const asked = query === undefined ? { said } : { query };
        return evaluate(ir, snapshot, { from: pod, to, protocol, port, ...asked }, learned).verdict === 'allow';
      },
    };
  }
}

/** Whether a name is a domain, or below it: as lists mean it, said anew here. */
export function isBelow(name: string, domain: string): boolean {
  return name.endsWith(`.${domain}`);
}
