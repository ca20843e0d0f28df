#!/usr/bin/env node
/**
 * egress-certs: makes the certificates of agents, relay and egressctl, and stores them as Secrets. A Job runs it once;
 * it may run again at any time.
 */
import { Command, Option } from 'commander';
import { VERSION } from '../../version.js';
import { KubeClient, loadKubeConfig } from '../../kube/client/client.js';
import { LOG_LEVELS, type LogLevel, makeLogger } from '../../log.js';
import { endOnFault } from '../../exit.js';
import { AGENT_NAMESPACE } from '../nodes/names.js';
import { ensureCertificates } from './secrets.js';

interface Flags {
  namespace: string;
  rotate?: boolean;
  kubeconfig?: string;
  context?: string;
  logLevel: LogLevel;
}

const program = new Command('egress-certs')
  .description(
    'Make the certificates of agents, relay and egressctl, and store them as Secrets. The key of the CA is discarded.',
  )
  .version(VERSION, '-V, --version', 'print the version of egress-certs')
  .helpOption('-h, --help', 'show this help')
  .addOption(
    new Option('--namespace <ns>', 'namespace in which the agents run').env('NAMESPACE').default(AGENT_NAMESPACE),
  )
  .option('--rotate', 'make new certificates even if the present ones are valid for more than 30 days')
  .option('--kubeconfig <file>', 'use this kubeconfig instead of $KUBECONFIG or the service account')
  .option('--context <name>', 'context of the kubeconfig')
  .addOption(new Option('--log-level <level>', 'lowest level of messages to log').choices(LOG_LEVELS).default('info'))
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

endOnFault(program.parseAsync(), { name: 'egress-certs', about: (e) => e.where.file ?? '', brief: true });
