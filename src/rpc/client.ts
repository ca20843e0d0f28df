/** A caller of agents and of the relay, on a unix socket or over TCP: what egressctl, the relay and the tests use. */
import { existsSync } from 'node:fs';
import {
  Client,
  type ClientReadableStream,
  credentials,
  type MethodDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { AgentError } from '../errors.js';
import type {
  ClusterStatusResponse,
  ExplainRequest,
  ExplainResponse,
  GetFlowsRequest,
  GetFlowsResponse,
  GetNamespacesResponse,
  GetNodesResponse,
  GetRecordsResponse,
  PoliciesResponse,
  ServerStatusResponse,
  StatusResponse,
} from './messages.js';
import { EGRESS, OBSERVER } from './proto.js';
import { AGENT_SERVER_NAME, type TlsFiles } from './tls.js';

/** Time that an answer may take. Streams have none. */
const DEADLINE_MS = 10_000;
const MAX_RESPONSE_BYTES = 64 << 20;

/** Nobody answers. */
export class UnreachableError extends AgentError {}

/** A server on TCP. */
export interface Remote {
  /** `ADDRESS:PORT` */
  address: string;
  /** What messages call it, e.g. the node's name. */
  name: string;
  /** What messages say in place of the address, where that tells nothing. */
  shown?: string | undefined;
  /** Without it: in the clear. */
  tls?: TlsFiles | undefined;
  /** The name that its certificate must carry. */
  serverName?: string;
}

/** A peer that vanished without a word is noticed within their sum. */
const KEEPALIVE_MS = 15_000;
const KEEPALIVE_TIMEOUT_MS = 5000;

export class AgentClient {
  readonly #client: Client;
  readonly #target: string | Remote;

  /** @param target path of the agent's unix socket, or a server on TCP */
  constructor(target: string | Remote) {
    this.#target = target;
    const shared = { 'grpc.max_receive_message_length': MAX_RESPONSE_BYTES };
    if (typeof target === 'string') {
      const options = { ...shared, 'grpc.default_authority': 'localhost' };
      this.#client = new Client(`unix:${target}`, credentials.createInsecure(), options);
      return;
    }
    const { address, tls, serverName = AGENT_SERVER_NAME } = target;
    this.#client = new Client(
      address,
      tls ? credentials.createSsl(tls.ca, tls.key, tls.cert) : credentials.createInsecure(),
      {
        ...shared,
        'grpc.keepalive_time_ms': KEEPALIVE_MS,
        'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
        // Each client has its own connection: what one does to it does not happen to another.
        'grpc.use_local_subchannel_pool': 1,
        'grpc.default_authority': serverName,
        ...(tls ? { 'grpc.ssl_target_name_override': serverName } : {}),
      },
    );
  }

  /**
   * Whole records. Ends with the answer; leaving the loop, or the signal, ends the call. Throws AGENT, USAGE.
   * @param opened called when the agent has taken the request: what it sees from then on is told
   */
  getRecords(req: GetFlowsRequest, signal?: AbortSignal, opened?: () => void): AsyncIterable<GetRecordsResponse> {
    return this.#stream<GetRecordsResponse>(EGRESS.GetFlows as Method, req, signal, opened);
  }

  /** The same as Hubble's clients get it. */
  getFlows(req: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetFlowsResponse> {
    return this.#stream<GetFlowsResponse>(OBSERVER.GetFlows as Method, req, signal);
  }

  status(deadlineMs?: number): Promise<StatusResponse> {
    return this.#call<StatusResponse>(EGRESS.Status as Method, {}, deadlineMs);
  }

  /** Of every node that the server knows; an agent knows its own. */
  clusterStatus(): Promise<ClusterStatusResponse> {
    return this.#call<ClusterStatusResponse>(EGRESS.ClusterStatus as Method, {});
  }

  explain(req: ExplainRequest): Promise<ExplainResponse> {
    return this.#call<ExplainResponse>(EGRESS.Explain as Method, req);
  }

  policies(deadlineMs?: number): Promise<PoliciesResponse> {
    return this.#call<PoliciesResponse>(EGRESS.Policies as Method, {}, deadlineMs);
  }

  serverStatus(deadlineMs?: number): Promise<ServerStatusResponse> {
    return this.#call<ServerStatusResponse>(OBSERVER.ServerStatus as Method, {}, deadlineMs);
  }

  nodes(deadlineMs?: number): Promise<GetNodesResponse> {
    return this.#call<GetNodesResponse>(OBSERVER.GetNodes as Method, {}, deadlineMs);
  }

  namespaces(deadlineMs?: number): Promise<GetNamespacesResponse> {
    return this.#call<GetNamespacesResponse>(OBSERVER.GetNamespaces as Method, {}, deadlineMs);
  }

  close(): void {
    this.#client.close();
  }

  #call<A>(method: Method, request: object, deadlineMs = DEADLINE_MS): Promise<A> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + deadlineMs },
        (error, response) => (error ? reject(this.#fault(error)) : resolve(response as A)),
      );
    });
  }

  async *#stream<A>(method: Method, request: object, signal?: AbortSignal, opened?: () => void): AsyncGenerator<A> {
    if (signal?.aborted) return;
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    ) as ClientReadableStream<A>;
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel);
    if (opened) call.once('metadata', opened);
    try {
      for await (const message of call) yield message as A;
    } catch (e) {
      if (signal?.aborted && (e as ServiceError).code === status.CANCELLED) return;
      throw this.#fault(e as ServiceError);
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  #fault(e: ServiceError): AgentError {
    const details = e.details || e.message;
    if (e.code === status.INVALID_ARGUMENT) return new AgentError('USAGE', details);
    if (e.code !== status.UNAVAILABLE && e.code !== status.DEADLINE_EXCEEDED) {
      return new AgentError('AGENT', `the agent says: ${details}`);
    }
    if (typeof this.#target !== 'string') {
      const { name, address, shown = address } = this.#target;
      return new UnreachableError('AGENT', `${name} (${shown}) cannot be reached: ${reasonOf(details)}`);
    }
    if (/EACCES|EPERM/.test(details)) {
      return new UnreachableError('AGENT', `no permission to use ${this.#target}`, {
        hint: 'run this as root, or with sudo',
      });
    }
    const missing = !existsSync(this.#target);
    return new UnreachableError(
      'AGENT',
      missing ? `no agent is running: there is no ${this.#target}` : `no agent answers on ${this.#target}`,
      {
        hint: 'start egress-agent, or name its socket with --socket',
      },
    );
  }
}

/** What grpc-js wraps around the words of the system below it. */
function reasonOf(details: string): string {
  const bare = details
    .replace(/^No connection established\. Last error:( Error:)?/, '')
    .replace(/\s*(\(\d{4}-[^)]*Z\)\.)?\s*Resolution note:.*$/s, '')
    .replace(/^.*Error \[ERR_TLS_CERT_ALTNAME_INVALID\]:/s, '')
    .trim();
  return bare === '' ? 'no connection' : bare;
}

type Method = MethodDefinition<object, unknown>;
