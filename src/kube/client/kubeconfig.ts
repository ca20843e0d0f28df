/** Finds the API server and the credentials: from a kubeconfig file, or from the service account of the pod. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { AgentError } from '../../errors.js';

const TOKEN_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/token';

/**
 * Loads the configuration in kubectl's order: the given file; the files of $KUBECONFIG; ~/.kube/config; the pod's
 * service account.
 * @param opts.context a context other than the file's current one
 * @throws AgentError USAGE; it names the file and a solution
 */
export function loadKubeConfig(opts: { kubeconfig?: string; context?: string } = {}): KubeConfig {
  const files = configFiles(opts.kubeconfig);
  const config = files.length > 0 ? merged(files) : serviceAccount();
  const named = files.join(delimiter) || TOKEN_FILE;
  if (opts.context !== undefined) {
    if (!config.getContexts().some((c) => c.name === opts.context)) {
      throw new AgentError('USAGE', `there is no context "${opts.context}"`, {
        where: { file: named },
        hint: `contexts there: ${
          config
            .getContexts()
            .map((c) => c.name)
            .join(', ') || 'none'
        }`,
      });
    }
    config.setCurrentContext(opts.context);
  }
  serverUrl(config, named);
  return config;
}

/**
 * The API server of the current context.
 * @throws AgentError USAGE
 */
export function serverUrl(config: KubeConfig, file?: string): URL {
  const where = file === undefined ? {} : { file };
  const context = config.getCurrentContext();
  const server = config.getCurrentCluster()?.server;
  if (!server) {
    throw new AgentError(
      'USAGE',
      context ? `context "${context}" names no cluster that is there` : 'no context is set',
      {
        where,
        hint: 'see `kubectl config get-contexts`; choose one with --context, or `kubectl config use-context NAME`',
      },
    );
  }
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new AgentError('USAGE', `"${server}" is not the address of an API server`, {
      where,
      hint: 'it begins with https://',
    });
  }
  return url;
}

function configFiles(given: string | undefined): string[] {
  if (given !== undefined) {
    if (existsSync(given)) return [given];
    throw new AgentError('USAGE', 'there is no such kubeconfig', { where: { file: given }, hint: 'see --kubeconfig' });
  }
  const listed = (process.env.KUBECONFIG ?? '').split(delimiter).filter((file) => file !== '');
  if (listed.length > 0) {
    // Like kubectl, ignores missing files if several are listed.
    const existing = listed.filter((file) => existsSync(file));
    if (existing.length > 0) return existing;
    throw new AgentError('USAGE', 'there is no such kubeconfig', {
      where: { file: listed.join(delimiter) },
      hint: 'set $KUBECONFIG to a file that exists, or unset it',
    });
  }
  const home = join(process.env.HOME || homedir(), '.kube', 'config');
  return existsSync(home) ? [home] : [];
}

function serviceAccount(): KubeConfig {
  if (!existsSync(TOKEN_FILE)) {
    throw new AgentError('USAGE', 'no way to the API server: no kubeconfig, and no service account', {
      where: { file: TOKEN_FILE },
      hint: 'give --kubeconfig, set $KUBECONFIG, or let the pod have a service account (automountServiceAccountToken)',
    });
  }
  for (const name of ['KUBERNETES_SERVICE_HOST', 'KUBERNETES_SERVICE_PORT']) {
    if (!process.env[name]) {
      throw new AgentError('USAGE', `there is a service account, but $${name} is not set`, {
        where: { file: TOKEN_FILE },
        hint: 'the kubelet sets it in every pod; set it to the API server, or give --kubeconfig',
      });
    }
  }
  const config = new KubeConfig();
  config.loadFromCluster();
  return config;
}

/**
 * Merges files like kubectl: of two entries with the same name the first one counts, and so does the first current
 * context.
 */
function merged(files: readonly string[]): KubeConfig {
  const all = files.map(read);
  const first = <T extends { name: string }>(lists: readonly (readonly T[])[]): T[] => [
    ...new Map(
      lists
        .flat()
        .toReversed()
        .map((item) => [item.name, item]),
    ).values(),
  ];
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: first(all.map((c) => c.clusters)),
    users: first(all.map((c) => c.users)),
    contexts: first(all.map((c) => c.contexts)),
    currentContext: all.map((c) => c.getCurrentContext()).find((name) => name) ?? '',
  });
  return config;
}

function read(file: string): KubeConfig {
  try {
    const config = new KubeConfig();
    config.loadFromFile(file);
    const document: unknown = parse(readFileSync(file, 'utf8'));
    for (const [name, path] of tokenFiles(document)) {
      const user = config.users.findIndex((u) => u.name === name);
      const tokenFile = isAbsolute(path) ? path : join(dirname(file), path);
      // The client library supports `tokenFile` only for service accounts. Expressed in its terms, the file is read
      // again when it is rotated.
      if (user >= 0) {
        config.users[user] = { ...config.users[user]!, authProvider: { name: 'tokenFile', config: { tokenFile } } };
      }
    }
    return config;
  } catch (e) {
    throw new AgentError('USAGE', `the kubeconfig cannot be read: ${(e as Error).message.split('\n')[0]}`, {
      where: { file },
      hint: 'try it with `kubectl --kubeconfig FILE config view`',
      cause: e,
    });
  }
}

/** [user, path] of each user with a `tokenFile` and without a `token`, which has precedence. */
function tokenFiles(document: unknown): [string, string][] {
  const users = (document as { users?: unknown } | null)?.users;
  if (!Array.isArray(users)) return [];
  return users.flatMap((entry: { name?: unknown; user?: { tokenFile?: unknown; token?: unknown } } | null) => {
    const { name, user } = entry ?? {};
    if (typeof name !== 'string' || typeof user?.tokenFile !== 'string' || user.token) return [];
    return [[name, user.tokenFile] as [string, string]];
  });
}
