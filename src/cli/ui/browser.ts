/** Opens the user's browser. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * Opens a link in the user's browser, if there is one. The arguments of a program can be read by every user of the
 * machine, and the link has the token: so the browser is given a file, which only this user can read, and which leads
 * on.
 * @returns removes the file
 */
export async function openBrowser(link: string): Promise<() => void> {
  const isScreen = process.platform !== 'linux' || process.env.DISPLAY || process.env.WAYLAND_DISPLAY;
  if (!isScreen) return () => {};
  const dir = mkdtempSync(join(tmpdir(), 'egressctl-ui-'));
  const file = join(dir, 'open.html');
  const quoted = link.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  writeFileSync(
    file,
    `<!doctype html><meta http-equiv="refresh" content="0;url=${quoted}"><title>egress-agent</title>`,
    {
      mode: 0o600,
    },
  );
  const forget = () => rmSync(dir, { recursive: true, force: true });
  try {
    const { default: open } = await import('open');
    const browser = await open(pathToFileURL(file).href);
    browser.on('error', () => process.stderr.write('egressctl: no browser could be opened: use the link\n'));
    browser.unref();
  } catch (e) {
    process.stderr.write(`egressctl: no browser could be opened: ${(e as Error).message}\n`);
  }
  return forget;
}
