/** The page's server in this process, over what a test gives it: an agent, and hands that write. */
import type { Test } from 'tap';
import { makeLogger } from '../../src/log.js';
import type { AgentClient } from '../../src/rpc/transport/client.js';
import { EVERYTHING, type Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import type { Hands } from '../../src/ui/api/hands.js';
import { Feeds } from '../../src/ui/api/stream.js';
import { Assets } from '../../src/ui/http/assets.js';
import { Sessions } from '../../src/ui/http/sessions.js';
import { UiServer } from '../../src/ui/server.js';

export interface Served {
  /** The page: `http://127.0.0.1:4711`. */
  readonly url: string;
  /** A link that begins a session, on a screen: `/policies?q=web`. */
  readonly link: (screen: string) => string;
}

/** Ends with the test. @param hands or why nothing can be written */
export async function servePage(t: Test, client: AgentClient, hands: Hands | string): Promise<Served> {
  const sessions = new Sessions<Viewer>();
  const writes = typeof hands !== 'string';
  const server = new UiServer({
    assets: new Assets(),
    sessions,
    feeds: new Feeds(client),
    handlers: allHandlers(client, () => hands),
    session: async () => ({
      ...{ version: '0', source: 'node test', user: '', writes },
      ...(writes ? {} : { readOnly: hands }),
    }),
    log: makeLogger('warn'),
  });
  const url = await server.listenLocal(0);
  t.teardown(() => server.close());
  return { url, link: (screen) => `${url}${screen}#token=${sessions.newToken(EVERYTHING)}` };
}
