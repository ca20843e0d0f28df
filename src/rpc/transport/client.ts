/** A client of agents and of the relay, on a unix socket or over TCP. egressctl, the relay and the tests use it. */
import { existsSync } from 'node:fs';
import {
  Client,
  type ClientReadableStream,
  credentials,
  type Interceptor,
  type MethodDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { AgentError } from '../../errors.js';
import type {
  ExplainRequest,
  ExplainResponse,
  GetFlowsRequest,
  GetFlowsResponse,
  GetNamespacesResponse,
  GetNodesResponse,
  GetRecordsResponse,
  NamesRequest,
  NamesResponse,
  SampleFlowsRequest,
  SampleFlowsResponse,
  ServerStatusResponse,
} from '../../proto/messages.js';
import type {
  ActivityRequest,
  ActivityResponse,
  EdgesRequest,
  EdgesResponse,
  HistoryFlowsRequest,
  HistoryResponse,
  PolicyObjectsRequest,
  PolicyObjectsResponse,
  PreviewRequest,
  PreviewResponse,
  RecommendRequest,
  RecommendResponse,
} from '../../proto/edges.js';
import type { ClusterStatusResponse, PoliciesResponse, StatusResponse } from '../../proto/status.js';
import { decodeNumbers, EGRESS, OBSERVER } from '../../proto/load.js';
import { ReadAhead } from './ahead.js';
import { AGENT_SERVER_NAME, type TlsFiles } from './tls.js';

/** Time limit for an answer in milliseconds. Streams have none. */
const DEADLINE_MS = 10_000;
const MAX_RESPONSE_BYTES = 64 << 20;

/** The server cannot be reached. */
export class UnreachableError extends AgentError {}

/** The server has no room for another call of this kind. */
export class FullError extends AgentError {}

/** A server on TCP. */
export interface Remote {
  /** `ADDRESS:PORT` */
  address: string;
  /** Its name in messages, such as the node's name. */
  name: string;
  /** Text for messages in place of the address, if the address means nothing to users. */
  label?: string | undefined;
  /** Without it: unencrypted. */
  tls?: TlsFiles | undefined;
  /** The name that its certificate must contain. */
  serverName?: string;
}

/** A peer that vanishes without closing the connection is noticed within the sum of these two. */
const KEEPALIVE_MS = 15_000;
const KEEPALIVE_TIMEOUT_MS = 5000;

/** A connection to an agent or to the relay. */
export class AgentClient {
  readonly #client: Client;
  readonly #target: string | Remote;

  /** @param target path of the agent's unix socket, or a server on TCP */
  constructor(target: string | Remote) {
    this.#target = target;
    const shared = { 'grpc.max_receive_message_length': MAX_RESPONSE_BYTES };
    if (typeof target === 'string') {
      // A restarted agent is back within seconds, and an attempt to connect to a socket is cheap.
      const retry = { 'grpc.initial_reconnect_backoff_ms': 200, 'grpc.max_reconnect_backoff_ms': 1000 };
      const options = { ...shared, ...retry, 'grpc.default_authority': 'localhost' };
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
        // Each client has its own connection, so that clients do not affect each other.
        'grpc.use_local_subchannel_pool': 1,
        'grpc.default_authority': serverName,
        ...(tls ? { 'grpc.ssl_target_name_override': serverName } : {}),
      },
    );
  }

  /**
   * The whole records. The stream ends with the answer. Leaving the loop, or the signal, cancels the call.
   * @param opened called when the agent has accepted the request: no flow is missed from then on
   * @throws AgentError AGENT, USAGE
   */
  getRecords(req: GetFlowsRequest, signal?: AbortSignal, opened?: () => void): AsyncIterable<GetRecordsResponse> {
    return this.#stream<GetRecordsResponse>(EGRESS.GetFlows as Method, req, signal, opened);
  }

  /** The flows in the form that Hubble's clients get. */
  getFlows(req: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetFlowsResponse> {
    return this.#stream<GetFlowsResponse>(OBSERVER.GetFlows as Method, req, signal);
  }

  /**
   * A sample of the flows, once a second. The signal, or leaving the loop, cancels the call.
   * @param opened called when the server has accepted the request @throws AgentError AGENT, USAGE
   */
  sampleFlows(req: SampleFlowsRequest, signal?: AbortSignal, opened?: () => void): AsyncIterable<SampleFlowsResponse> {
    return this.#stream<SampleFlowsResponse>(EGRESS.SampleFlows as Method, req, signal, opened);
  }

  /** The same, as the bytes of each SampleFlowsResponse: for whoever reads those of many agents. */
  sampleBytes(req: SampleFlowsRequest, signal?: AbortSignal, opened?: () => void): AsyncIterable<Buffer> {
    const method = { ...(EGRESS.SampleFlows as Method), responseDeserialize: (bytes: Buffer) => bytes };
    return this.#stream<Buffer>(method, req, signal, opened);
  }

  status(deadlineMs?: number): Promise<StatusResponse> {
    return this.#call<StatusResponse>(EGRESS.Status as Method, {}, deadlineMs);
  }

  /** The status of every node that the server knows. An agent knows only its own. */
  clusterStatus(): Promise<ClusterStatusResponse> {
    return this.#call<ClusterStatusResponse>(EGRESS.ClusterStatus as Method, {});
  }

  explain(req: ExplainRequest): Promise<ExplainResponse> {
    return this.#call<ExplainResponse>(EGRESS.Explain as Method, req);
  }

  names(req: NamesRequest, deadlineMs?: number): Promise<NamesResponse> {
    return this.#call<NamesResponse>(EGRESS.Names as Method, req, deadlineMs);
  }

  policies(deadlineMs?: number): Promise<PoliciesResponse> {
    return this.#call<PoliciesResponse>(EGRESS.Policies as Method, {}, deadlineMs);
  }

  /** Who talked to whom. The signal, or leaving the loop, cancels the call. @throws AgentError AGENT, USAGE */
  edges(req: EdgesRequest, signal?: AbortSignal, opened?: () => void): AsyncIterable<EdgesResponse> {
    const responseDeserialize = (bytes: Buffer) => decodeNumbers<EdgesResponse>('egress.v1.EdgesResponse', bytes);
    return this.#stream<EdgesResponse>({ ...(EGRESS.Edges as Method), responseDeserialize }, req, signal, opened);
  }

  /** The same, as the bytes of each EdgesResponse: for whoever reads those of a thousand agents. */
  edgeBytes(req: EdgesRequest, signal?: AbortSignal): AsyncIterable<Buffer> {
    const method = { ...(EGRESS.Edges as Method), responseDeserialize: (bytes: Buffer) => bytes };
    return this.#stream<Buffer>(method, req, signal);
  }

  /** What a relay's history holds. An agent has none. */
  history(deadlineMs?: number): Promise<HistoryResponse> {
    return this.#call<HistoryResponse>(EGRESS.History as Method, {}, deadlineMs);
  }

  /** The whole flows of a relay's history. @throws AgentError AGENT, USAGE */
  historyFlows(req: HistoryFlowsRequest, signal?: AbortSignal): AsyncIterable<GetRecordsResponse> {
    return this.#stream<GetRecordsResponse>(EGRESS.HistoryFlows as Method, req, signal);
  }

  activity(req: ActivityRequest, deadlineMs?: number): Promise<ActivityResponse> {
    return this.#call<ActivityResponse>(EGRESS.Activity as Method, req, deadlineMs);
  }

  policyObjects(req: PolicyObjectsRequest, deadlineMs?: number): Promise<PolicyObjectsResponse> {
    return this.#call<PolicyObjectsResponse>(EGRESS.PolicyObjects as Method, req, deadlineMs);
  }

  /** @param signal takes the question back: the promise is rejected */
  preview(req: PreviewRequest, deadlineMs?: number, signal?: AbortSignal): Promise<PreviewResponse> {
    return this.#call<PreviewResponse>(EGRESS.Preview as Method, req, deadlineMs, signal);
  }

  /** The signal cancels the call. */
  recommend(req: RecommendRequest, deadlineMs?: number, signal?: AbortSignal): Promise<RecommendResponse> {
    return this.#call<RecommendResponse>(EGRESS.Recommend as Method, req, deadlineMs, signal);
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

  #call<A>(method: Method, request: object, deadlineMs = DEADLINE_MS, signal?: AbortSignal): Promise<A> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + deadlineMs },
        (error, response) => {
          signal?.removeEventListener('abort', cancel);
          if (error) reject(this.#fault(error));
          else resolve(response as A);
        },
      );
      const cancel = () => call.cancel();
      signal?.addEventListener('abort', cancel);
      if (signal?.aborted) cancel();
    });
  }

  async *#stream<A>(method: Method, request: object, signal?: AbortSignal, opened?: () => void): AsyncGenerator<A> {
    if (signal?.aborted) return;
    const ahead = new ReadAhead();
    const deserialize = (bytes: Buffer) => {
      ahead.received(bytes.length);
      return method.responseDeserialize(bytes);
    };
    const interceptors: Interceptor[] = [(options, next) => ahead.intercept(next(options))];
    const call = this.#client.makeServerStreamRequest(method.path, method.requestSerialize, deserialize, request, {
      interceptors,
    }) as ClientReadableStream<A>;
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel);
    if (opened) call.once('metadata', opened);
    try {
      for await (const message of call) {
        yield message as A;
        if (call.readableLength === 0) ahead.caughtUp();
      }
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
    if (e.code === status.RESOURCE_EXHAUSTED) return new FullError('AGENT', `the agent says: ${details}`);
    if (e.code !== status.UNAVAILABLE && e.code !== status.DEADLINE_EXCEEDED) {
      return new AgentError('AGENT', `the agent says: ${details}`);
    }
    if (typeof this.#target !== 'string') {
      const { name, address, label = address } = this.#target;
      return new UnreachableError('AGENT', `${name} (${label}) cannot be reached: ${reasonOf(details)}`);
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

/** Extracts the system's error message from the text that grpc-js wraps around it. */
function reasonOf(details: string): string {
  const bare = details
    .replace(/^No connection established\. Last error:( Error:)?/, '')
    .replace(/\s*(\(\d{4}-[^)]*Z\)\.)?\s*Resolution note:.*$/s, '')
    .replace(/^.*Error \[ERR_TLS_CERT_ALTNAME_INVALID\]:/s, '')
    .trim();
  return bare === '' ? 'no connection' : bare;
}

type Method = MethodDefinition<object, unknown>;
