#!/usr/bin/env node
/** egress-certs: the certificates of agents, relay and egressctl, as Secrets. What a Job runs once, and at will again. */
import { Command, Option } from 'commander';
import { VERSION } from '../cli/version.js';
import { KubeClient, loadKubeConfig } from '../kube/client.js';
import { LOG_LEVELS, type LogLevel, makeLogger } from '../log.js';
import { endOnFault } from './exit.js';
import { AGENT_NAMESPACE } from './names.js';
import { ensureCertificates } from './secrets.js';

interface Flags {
  namespace: string;
  rotate?: boolean;
  kubeconfig?: string;
  context?: string;
  logLevel: LogLevel;
}

const program = new Command('egress-certs')
  .description('Makes a CA, forgets its key, and keeps the certificates of agents, relay and egressctl as Secrets.')
  .version(VERSION)
  .addOption(new Option('--namespace <ns>', "the agents' namespace").env('NAMESPACE').default(AGENT_NAMESPACE))
  .option('--rotate', 'make new ones even if those there are good for more than 30 days')
  .option('--kubeconfig <file>', 'in place of $KUBECONFIG and the service account')
  .option('--context <name>', 'of the kubeconfig')
  .addOption(new Option('--log-level <level>', 'how much to log').choices(LOG_LEVELS).default('info'))
  .configureHelp({ helpWidth: 100 })
  .exitOverride()
  .action(async (flags: Flags) => {
    const { namespace, rotate = false, kubeconfig, context } = flags;
    const client = new KubeClient(loadKubeConfig({ kubeconfig, context }));
    try {
      await ensureCertificates({ client, namespace, rotate, log: makeLogger(flags.logLevel) });
    } finally {
      client.close();
    }
  });

endOnFault('egress-certs', program.parseAsync());
