/** The page in a browser, in front of a source that says what a test gives it: for screens whose world is no kernel. */
import type { Test } from 'tap';
import type { Viewer } from '../../src/ui/access/viewer.js';
import { EVERYTHING } from '../../src/ui/access/viewer.js';
import { askHandlers } from '../../src/ui/api/ask.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { Assets } from '../../src/ui/http/assets.js';
import { Sessions } from '../../src/ui/http/sessions.js';
import { UiServer } from '../../src/ui/server.js';
import type { Session } from '../../src/ui/wire/messages.js';
import { makeLogger } from '../../src/log.js';
import type { PolicyObjectsResponse, RecommendRequest, RecommendResponse } from '../../src/proto/edges.js';
import type { HistoryResponse } from '../../src/proto/edges.js';
import type { AgentClient } from '../../src/rpc/transport/client.js';
import { silentSource, type TestSource } from './source.js';

/** What a test gives; the rest is silent. */
export type GivenSource = Partial<TestSource> & {
  policyObjects?(): Promise<PolicyObjectsResponse>;
  history?(): Promise<HistoryResponse>;
  recommend?(request: RecommendRequest, deadlineMs: number, signal?: AbortSignal): Promise<RecommendResponse>;
};

export interface GivenPage {
  /** `http://127.0.0.1:4711` */
  readonly url: string;
  /** The address of a screen, with a token that is good once. @param path `/status?node=n1` */
  link(path: string, viewer?: Viewer): string;
  /** Ends, and can begin again at the same address: with the same sessions. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** All sessions are over. */
  forget(): void;
}

/** Serves until the test ends. @param session what is said of the user, where it differs */
export async function servePage(t: Test, source: GivenSource, session: Partial<Session> = {}): Promise<GivenPage> {
  const client = {
    ...silentSource(),
    policyObjects: async () => ({ objects: [] }),
    history: async () => ({}),
    ...source,
  } as unknown as AgentClient;
  let sessions = new Sessions<Viewer>();
  let server: UiServer | undefined;
  const start = async (port: number) => {
    server = new UiServer({
      assets: new Assets(),
      sessions,
      feeds: new Feeds(client),
      handlers: askHandlers(client),
      session: async () => ({ version: '0.1.0', source: 'cluster test', user: '', writes: false, ...session }),
      log: makeLogger('error'),
    });
    return await server.listenLocal(port);
  };
  const url = await start(0);
  const stop = async () => {
    await server?.close();
    server = undefined;
  };
  t.teardown(stop);
  const again = async () => void (await start(Number(new URL(url).port)));
  return {
    url,
    link: (path, viewer = EVERYTHING) => `${url}${path}#token=${sessions.newToken(viewer)}`,
    stop,
    start: again,
    forget: () => void (sessions = new Sessions<Viewer>()),
  };
}
