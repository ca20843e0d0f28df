/**
 * The protocol between the CNI plugin (daemonset/gate) and the agent, over a unix socket, one request a connection:
 *
 *     request   EGRESS-GATE/1 ADD\n          or DEL
 *               container ID\n               CNI_CONTAINERID
 *               netns PATH\n                 CNI_NETNS, as the host sees it; with DEL it may be missing
 *               ifname NAME\n                CNI_IFNAME; with DEL it may be missing
 *               args TEXT\n                  CNI_ARGS; may be missing
 *               conf-bytes N\n               at most 1 MiB
 *               \n
 *               N bytes                      the plugin's network configuration, with prevResult
 *     answer    OK\n                         the pod's policy is in force (ADD), noted (DEL)
 *               NO REASON\n                  it is not; at most 1,024 bytes
 *
 * If a connection ends without an answer, the plugin concludes that the agent has ended, and asks again.
 */
import { AgentError } from '../../src/errors.js';
import { factsOf, member } from './cni/result.js';

/** A request about a pod's interface that a CNI has just made, or is about to delete. */
export interface GateRequest {
  command: 'ADD' | 'DEL';
  /** Id of the sandbox in the container runtime. */
  container: string;
  /** Path of the pod's network namespace on the host; empty in a DEL whose namespace no longer exists. */
  netns: string;
  /** Name of the interface in the pod; empty in a DEL without one. */
  ifname: string;
  /** The sandbox's pod. A static pod's uid is kubelet's, not the one that the API server gave to its mirror. */
  pod?: { namespace: string; name: string; uid?: string };
  /** The pod's own addresses, canonical. */
  ips: string[];
  /** MAC address of the interface in the pod, in lower case. */
  mac?: string;
}

const MAX_HEADER_BYTES = 20_480;
const MAX_CONF_BYTES = 1 << 20;
/** Largest size of a request. */
export const MAX_REQUEST_BYTES = MAX_HEADER_BYTES + MAX_CONF_BYTES;
const MAX_REASON_BYTES = 1024;

const KEYS = ['container', 'netns', 'ifname', 'args', 'conf-bytes'];
/** Container ids: CNI specification, "Parameters". */
const CONTAINER = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,255}$/;
/** Interface names: dev_valid_name() in the kernel. */
const IFNAME = /^(?!\.{1,2}$)[^\s/:\u0000-\u001f\u007f]{1,15}$/;
/** Names of namespaces and pods: DNS subdomains. */
const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;
const UID = /^[A-Za-z0-9-]{1,128}$/;

function requestError(message: string): AgentError {
  return new AgentError('GATE', `the CNI gate's request is not understood: ${message}`);
}

/**
 * Parses one request; undefined while it is incomplete.
 * @throws AgentError GATE if it is not and cannot become a valid one
 */
export function parseRequest(buffer: Buffer): GateRequest | undefined {
  const end = buffer.subarray(0, MAX_HEADER_BYTES).indexOf('\n\n');
  if (end < 0) {
    if (buffer.length >= MAX_HEADER_BYTES) throw requestError(`its head is longer than ${MAX_HEADER_BYTES} bytes`);
    return undefined;
  }
  const [first = '', ...lines] = buffer.toString('utf8', 0, end).split('\n');
  const command = /^EGRESS-GATE\/1 (ADD|DEL)$/.exec(first)?.[1] as 'ADD' | 'DEL' | undefined;
  if (!command) throw requestError('it begins with neither EGRESS-GATE/1 ADD nor EGRESS-GATE/1 DEL');
  const head = headOf(lines);

  const length = Number(/^(?:0|[1-9][0-9]{0,7})$/.exec(head.get('conf-bytes') ?? '')?.[0] ?? -1);
  if (length < 0 || length > MAX_CONF_BYTES) throw requestError(`conf-bytes is no number up to ${MAX_CONF_BYTES}`);
  const from = end + 2;
  if (buffer.length < from + length) return undefined;
  if (buffer.length > from + length) throw requestError('something follows it');

  const request: GateRequest = {
    command,
    container: head.get('container') ?? '',
    netns: head.get('netns') ?? '',
    ifname: head.get('ifname') ?? '',
    ips: [],
  };
  checkHead(request);
  const pod = podOf(head.get('args') ?? '');
  if (pod) request.pod = pod;
  return { ...request, ...resultOf(buffer.toString('utf8', from), request.ifname) };
}

function headOf(lines: readonly string[]): Map<string, string> {
  const head = new Map<string, string>();
  for (const line of lines) {
    const space = line.indexOf(' ');
    const key = line.slice(0, Math.max(space, 0));
    if (!KEYS.includes(key) || head.has(key)) throw requestError(`the line ${JSON.stringify(line.slice(0, 60))}`);
    head.set(key, line.slice(space + 1));
  }
  return head;
}

function checkHead(r: GateRequest): void {
  const needed = r.command === 'ADD';
  if (!CONTAINER.test(r.container)) throw requestError('container is not a container id');
  if ((needed || r.netns !== '') && !/^\/[^\u0000-\u001f\u007f]{0,4095}$/.test(r.netns)) {
    throw requestError('netns is not an absolute path');
  }
  if ((needed || r.ifname !== '') && !IFNAME.test(r.ifname))
    throw requestError('ifname is not the name of an interface');
}

/** The pod in CNI_ARGS, `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web`; undefined if it names none. */
function podOf(args: string): GateRequest['pod'] {
  const found = new Map<string, string>();
  for (const pair of args.split(';')) {
    const equals = pair.indexOf('=');
    if (equals > 0) found.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  const namespace = found.get('K8S_POD_NAMESPACE');
  const name = found.get('K8S_POD_NAME');
  const uid = found.get('K8S_POD_UID');
  if (!namespace || !name) return undefined;
  if (!NAME.test(namespace) || !NAME.test(name))
    throw requestError('K8S_POD_NAMESPACE and K8S_POD_NAME do not name a pod');
  if (uid && !UID.test(uid)) throw requestError('K8S_POD_UID is no uid');
  return uid ? { namespace, name, uid } : { namespace, name };
}

/** Addresses and MAC from prevResult. */
function resultOf(text: string, ifname: string): Pick<GateRequest, 'ips' | 'mac'> {
  let conf: unknown;
  try {
    conf = JSON.parse(text);
  } catch (cause) {
    throw requestError(`its network configuration is not JSON: ${(cause as Error).message}`);
  }
  try {
    return factsOf(member(conf, 'prevResult'), ifname);
  } catch (cause) {
    throw requestError(`prevResult.${(cause as Error).message}`);
  }
}

/** The answer, with its newline: OK, or NO with a reason. */
export function formatAnswer(reason?: string): string {
  if (reason === undefined) return 'OK\n';
  const line = Buffer.from(reason.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim() || 'no reason given');
  let length = Math.min(line.length, MAX_REASON_BYTES);
  // Not in the middle of a character.
  while (length < line.length && ((line[length] as number) & 0xc0) === 0x80) length--;
  return `NO ${line.toString('utf8', 0, length)}\n`;
}
