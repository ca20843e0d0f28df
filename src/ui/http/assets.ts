/** The page's files: read once, compressed when they were built. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AgentError } from '../../errors.js';

/** Where scripts/build puts them. */
export const ASSETS = fileURLToPath(new URL('../../../ui', import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
};

interface Asset {
  readonly type: string;
  readonly plain: Buffer;
  readonly gzip: Buffer | undefined;
  readonly brotli: Buffer | undefined;
}

/** All files of the page, by path: `/app.js`. */
export class Assets {
  readonly #files = new Map<string, Asset>();

  /** @throws AgentError INTERNAL if the page was not built */
  constructor(dir: string = ASSETS) {
    if (!existsSync(join(dir, 'index.html')))
      throw new AgentError('INTERNAL', `the page is missing: there is no ${join(dir, 'index.html')}`, {
        hint: 'npm run build makes it',
      });
    for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = join(entry.parentPath, entry.name);
      const type = TYPES[extname(file)];
      if (type === undefined) continue;
      const packed = (ending: string) => (existsSync(file + ending) ? readFileSync(file + ending) : undefined);
      const path = `/${relative(dir, file).split(sep).join('/')}`;
      this.#files.set(path, { type, plain: readFileSync(file), gzip: packed('.gz'), brotli: packed('.br') });
    }
  }

  has(path: string): boolean {
    return this.#files.has(path);
  }

  /** Sends a file. @param path one that is there */
  send(path: string, request: IncomingMessage, response: ServerResponse): void {
    const { type, plain, gzip, brotli } = this.#files.get(path) as Asset;
    const accepted = String(request.headers['accept-encoding'] ?? '');
    const [body, encoding] =
      brotli && /\bbr\b/.test(accepted)
        ? [brotli, 'br']
        : gzip && /\bgzip\b/.test(accepted)
          ? [gzip, 'gzip']
          : [plain, undefined];
    // Files with a hash of their content in the name never change.
    if (/-[0-9A-Z]{8}\.\w+$/.test(path)) response.setHeader('Cache-Control', 'public, max-age=31536000, immutable');
    if (encoding) response.setHeader('Content-Encoding', encoding);
    response.setHeader('Vary', 'Accept-Encoding');
    response.writeHead(200, { 'Content-Type': type, 'Content-Length': body.length });
    response.end(request.method === 'HEAD' ? undefined : body);
  }
}
