/** egressctl ui */
import { type Command, InvalidArgumentError } from 'commander';
import { makeLogger } from '../../log.js';
import { VERSION } from '../../version.js';
import type { Globals } from '../common/globals.js';

interface UiFlags extends Globals {
  port: number;
  open: boolean;
}

export function uiCommand(program: Command): void {
  const command = program
    .command('ui')
    .description('Show who talks to whom, what is denied and why, in a browser. Only this machine can open it.')
    .option('--port <port>', 'port on 127.0.0.1; 0: any that is free', parsePort, 0)
    .option('--no-open', 'do not open a browser');
  command.action(() => run(command.optsWithGlobals<UiFlags>()));
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('It is a number from 0 to 65535.');
  return port;
}

async function run(flags: UiFlags): Promise<void> {
  const [{ AgentClient }, { UiServer }, { Assets }, { Sessions }, { Feeds }, { askHandlers }, { EVERYTHING }] =
    await Promise.all([
      import('../../rpc/transport/client.js'),
      import('../../ui/server.js'),
      import('../../ui/http/assets.js'),
      import('../../ui/http/sessions.js'),
      import('../../ui/api/stream.js'),
      import('../../ui/api/ask.js'),
      import('../../ui/access/viewer.js'),
    ]);
  const client = new AgentClient(flags.socket);
  const { node_name } = await client.status();
  const sessions = new Sessions<typeof EVERYTHING>();
  const server = new UiServer({
    assets: new Assets(),
    sessions,
    feeds: new Feeds(client),
    handlers: askHandlers(client),
    session: () =>
      Promise.resolve({
        version: VERSION,
        source: `node ${node_name}`,
        user: '',
        writes: false,
        readOnly: 'this agent reads its policies from files',
      }),
    log: makeLogger('warn'),
  });
  const url = await server.listenLocal(flags.port);
  process.stdout.write(`${url}/#token=${sessions.newToken(EVERYTHING)}\n`);
  await new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
  await server.close();
  client.close();
}
