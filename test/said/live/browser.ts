/** Chromium without a window, in the pod: what a page shows. */
import { join } from 'node:path';
import type { Output } from '../../netns/shell.js';
import type { LiveBed } from './bed.js';
import type { Certificates } from './certificates.js';

/** Without a window, and with nothing of its own to say to anybody. */
export const QUIET = [
  ...['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-extensions'],
  ...['--no-proxy-server', '--disable-domain-reliability', '--no-default-browser-check', '--metrics-recording-only'],
  ...['--disable-features=OptimizationHints,MediaRouter,Translate,HttpsUpgrades', '--password-store=basic'],
];
let profiles = 0;

/** Loads a page, and prints what it then consists of. @param quic whether by QUIC alone; otherwise by TCP alone */
export function browse(bed: LiveBed, c: Certificates, url: string, quic = false): Promise<Output> {
  const { host } = new URL(url);
  return bed.run([
    'chromium',
    ...QUIET,
    `--user-data-dir=${join(bed.world.dir, `profile-${++profiles}`)}`,
    `--ignore-certificate-errors-spki-list=${c.pin}`,
    ...(quic ? [`--origin-to-force-quic-on=${host}:443`] : ['--disable-quic']),
    '--timeout=10000',
    '--dump-dom',
    url,
  ]);
}
