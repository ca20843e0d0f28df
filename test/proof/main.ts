/** npm run proof -- SUBJECT [arguments]: the subject is a module beside this one, whose `prove` does it. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Report, show } from './report.js';

const [subject = '', ...args] = process.argv.slice(2);
const module = new URL(`./${subject}.js`, import.meta.url);
if (!/^[a-z]+$/.test(subject) || !existsSync(fileURLToPath(module))) {
  console.error(`usage: npm run proof -- SUBJECT [arguments]; there is no subject "${subject}"`);
  process.exit(2);
}
const { prove } = (await import(module.href)) as { prove?: (args: readonly string[]) => Promise<Report> };
if (!prove) {
  console.error(`${subject} proves nothing by itself`);
  process.exit(2);
}
process.exit(show(await prove(args)));
