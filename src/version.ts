/** The version of this build. */
import { readFileSync } from 'node:fs';

/** package.json is next to `dist/`. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
