/** egressctl ui */
import { type Command, InvalidArgumentError } from 'commander';
import type { UiFlags } from './flags.js';

export function uiCommand(program: Command): void {
  const command = program
    .command('ui')
    .description('Show in a browser who talks to whom, what is denied and why, and what a change would do.')
    .option('--port <port>', 'port on 127.0.0.1; 0: any that is free', parsePort, 0)
    .option('--no-open', 'print the link, and open no browser')
    .addHelpText(
      'after',
      `
The page is served on 127.0.0.1 until Ctrl-C, with the rights of your kubeconfig, or of the agent's
socket. Its link is good for one browser and five minutes; Enter makes another one.`,
    );
  // The server of the page takes longer to load than the rest, so it is loaded only here.
  command.action(async () => (await import('./run.js')).runUi(command.optsWithGlobals<UiFlags>()));
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('It is a number from 0 to 65535.');
  return port;
}
