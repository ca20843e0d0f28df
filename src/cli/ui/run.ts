/** Serves the page for one user of this machine. */
import { once } from 'node:events';
import { AgentError } from '../../errors.js';
import { makeLogger } from '../../log.js';
import { EVERYTHING, type Viewer } from '../../ui/access/viewer.js';
import { PolicyApi } from '../../staging/live/api.js';
import { Evidence } from '../../staging/live/evidence.js';
import { allHandlers } from '../../ui/api/handlers.js';
import { type Hands, handsOf } from '../../ui/api/hands.js';
import { Feeds } from '../../ui/api/stream.js';
import { Assets } from '../../ui/http/assets.js';
import { Sessions } from '../../ui/http/sessions.js';
import { UiServer } from '../../ui/server.js';
import { VERSION } from '../../version.js';
import { safe } from '../common/output.js';
import { openBrowser } from './browser.js';
import { openSource, type UiSource } from './source.js';
import type { UiFlags } from './flags.js';

/** Runs until the user ends it. @throws AgentError */
export async function runUi(flags: UiFlags): Promise<void> {
  const assets = new Assets();
  const source = await openSource(flags);
  const sessions = new Sessions<Viewer>();
  const hands = await handsOn(source);
  const server = new UiServer({
    assets,
    sessions,
    feeds: new Feeds(source.client),
    handlers: allHandlers(source.client, () => hands),
    session: () => Promise.resolve(sessionOf(source)),
    log: makeLogger('warn'),
  });
  try {
    const url = await listen(server, flags.port);
    const link = () => `${url}/#token=${sessions.newToken(EVERYTHING)}`;
    process.stderr.write(`egressctl: ${safe(source.name)}; Ctrl-C ends\n`);
    const first = link();
    process.stdout.write(`${first}\n`);
    const forget = flags.open ? await openBrowser(first) : () => {};
    const stop = newLinks(link);
    await ended();
    stop();
    forget();
  } finally {
    await server.close();
    await source.close();
  }
}

/** What writes policies, or why nothing does. */
async function handsOn({ client, kube, readOnly }: UiSource): Promise<Hands | string> {
  if (!kube) return readOnly ?? 'there is no cluster';
  return handsOf(new PolicyApi(kube, 'egressctl'), await Evidence.of(client, 'relay'));
}

function sessionOf({ name, readOnly }: UiSource) {
  return {
    version: VERSION,
    source: name,
    user: '',
    writes: readOnly === undefined,
    ...(readOnly === undefined ? {} : { readOnly }),
  };
}

async function listen(server: UiServer, port: number): Promise<string> {
  try {
    return await server.listenLocal(port);
  } catch (e) {
    throw new AgentError('USAGE', `127.0.0.1:${port} cannot be used: ${(e as Error).message}`, {
      hint: 'give another --port, or none',
    });
  }
}

/** Enter on a terminal makes another link. */
function newLinks(link: () => string): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  const more = () => process.stdout.write(`${link()}\n`);
  stdin.on('data', more);
  return () => {
    stdin.off('data', more);
    stdin.pause();
  };
}

async function ended(): Promise<void> {
  // Whoever is asked to end has ended: a page that is open does not hold it up.
  const stop = new AbortController();
  const signals = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((name) =>
    once(process, name, { signal: stop.signal }),
  );
  await Promise.race(signals);
  stop.abort();
  await Promise.allSettled(signals);
}
