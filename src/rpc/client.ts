/** A caller of the agent: what egressctl and the tests use. */
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

/** Time that an answer may take. Streams have none. */
const DEADLINE_MS = 10_000;
const MAX_RESPONSE_BYTES = 64 << 20;

export class AgentClient {
  readonly #client: Client;
  readonly #path: string;

  /** @param path of the agent's unix socket */
  constructor(path: string) {
    this.#path = path;
    this.#client = new Client(`unix:${path}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_RESPONSE_BYTES,
      'grpc.default_authority': 'localhost',
    });
  }

  /** Whole records. Ends with the answer; leaving the loop, or the signal, ends the call. Throws AGENT, USAGE. */
  getRecords(req: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetRecordsResponse> {
    return this.#stream<GetRecordsResponse>(EGRESS.GetFlows as Method, req, signal);
  }

  /** The same as Hubble's clients get it. */
  getFlows(req: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetFlowsResponse> {
    return this.#stream<GetFlowsResponse>(OBSERVER.GetFlows as Method, req, signal);
  }

  status(): Promise<StatusResponse> {
    return this.#call<StatusResponse>(EGRESS.Status as Method, {});
  }

  explain(req: ExplainRequest): Promise<ExplainResponse> {
    return this.#call<ExplainResponse>(EGRESS.Explain as Method, req);
  }

  policies(): Promise<PoliciesResponse> {
    return this.#call<PoliciesResponse>(EGRESS.Policies as Method, {});
  }

  serverStatus(): Promise<ServerStatusResponse> {
    return this.#call<ServerStatusResponse>(OBSERVER.ServerStatus as Method, {});
  }

  nodes(): Promise<GetNodesResponse> {
    return this.#call<GetNodesResponse>(OBSERVER.GetNodes as Method, {});
  }

  namespaces(): Promise<GetNamespacesResponse> {
    return this.#call<GetNamespacesResponse>(OBSERVER.GetNamespaces as Method, {});
  }

  close(): void {
    this.#client.close();
  }

  #call<A>(method: Method, request: object): Promise<A> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + DEADLINE_MS },
        (error, response) => (error ? reject(this.#fault(error)) : resolve(response as A)),
      );
    });
  }

  async *#stream<A>(method: Method, request: object, signal?: AbortSignal): AsyncGenerator<A> {
    if (signal?.aborted) return;
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    ) as ClientReadableStream<A>;
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel);
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
    if (/EACCES|EPERM/.test(details)) {
      return new AgentError('AGENT', `no permission to use ${this.#path}`, { hint: 'run this as root, or with sudo' });
    }
    const missing = !existsSync(this.#path);
    return new AgentError(
      'AGENT',
      missing ? `no agent is running: there is no ${this.#path}` : `no agent answers on ${this.#path}`,
      {
        hint: 'start egress-agent, or name its socket with --socket',
      },
    );
  }
}

type Method = MethodDefinition<object, unknown>;
