/**
 * The code blocks of README.md and docs/. The word behind a block's language says how its commands are tried:
 *
 *   ```sh            in a world of network namespaces with an agent; must end with 0, or with 3 where the answer is "denied"
 *   ```sh findings   the same; may also end with 1, since it finds something
 *   ```sh agent      starts or removes an agent of its own
 *   ```sh cluster    by the end-to-end test, against a real cluster
 *   ```sh checked    not run: scripts and files must exist, options must be known
 *   ```yaml FILE     a file that stands there when the commands run
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../netns/shell.js';

export interface Block {
  /** Below the top of the tree. */
  file: string;
  /** Of the block's first line of code, from 1. */
  line: number;
  language: string;
  /** The words behind the language. */
  tag: string;
  text: string;
}

/** The documents for users, below the top of the tree. */
export function documents(): string[] {
  const docs = readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md'));
  return ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'ARCHITECTURE.md', ...docs.map((f) => `docs/${f}`)];
}

export function read(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

export function blocksOf(file: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | undefined;
  for (const [i, line] of read(file).split('\n').entries()) {
    const fence = /^```(\w*) ?(.*)$/.exec(line);
    if (!fence) {
      if (open) open.text += `${line}\n`;
    } else if (open) {
      blocks.push(open);
      open = undefined;
    } else {
      open = { file, line: i + 2, language: fence[1] as string, tag: (fence[2] as string).trim(), text: '' };
    }
  }
  return blocks;
}

/** The commands of a block, without comments; a line that ends with a backslash goes on. */
export function commandsOf(block: Block): string[] {
  return block.text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.replace(/(^|\s)#\s.*$/, '').trim())
    .filter((line) => line !== '');
}

/** All commands with one of these tags. */
export function commands(...tags: string[]): { where: string; tag: string; command: string }[] {
  return documents().flatMap((file) =>
    blocksOf(file)
      .filter((b) => b.language === 'sh' && tags.includes(b.tag))
      .flatMap((b) => commandsOf(b).map((command) => ({ where: `${b.file}:${b.line}`, tag: b.tag, command }))),
  );
}
