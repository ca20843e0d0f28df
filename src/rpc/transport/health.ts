/** grpc.health.v1.Health: https://github.com/grpc/grpc/blob/master/doc/health-checking.md */
import {
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';

type Status = 'SERVING' | 'NOT_SERVING';

/** The services with a status. Hubble's clients ask for the last one. */
const SERVICES = new Set(['', 'observer.Observer', 'egress.v1.Egress', 'peer.Peer', 'hubble.server.Observer']);

export class HealthState {
  #status: Status = 'NOT_SERVING';
  readonly #watchers = new Set<(s: Status) => void>();

  get status(): Status {
    return this.#status;
  }

  set(value: Status): void {
    if (value === this.#status) return;
    this.#status = value;
    for (const tell of this.#watchers) tell(value);
  }

  watch(tell: (s: Status) => void): () => void {
    this.#watchers.add(tell);
    return () => this.#watchers.delete(tell);
  }
}

export function healthHandlers(health: HealthState): UntypedServiceImplementation {
  return {
    Check: (call: ServerUnaryCall<{ service?: string }, unknown>, callback: sendUnaryData<unknown>) => {
      if (!SERVICES.has(call.request.service ?? '')) {
        callback({ code: status.NOT_FOUND, details: `no service ${call.request.service}` }, null);
        return;
      }
      callback(null, { status: health.status });
    },
    Watch: (call: ServerWritableStream<{ service?: string }, unknown>) => {
      if (!SERVICES.has(call.request.service ?? '')) {
        call.write({ status: 'SERVICE_UNKNOWN' });
        return;
      }
      call.write({ status: health.status });
      const stop = health.watch((s) => call.write({ status: s }));
      call.on('cancelled', stop);
      call.on('close', stop);
    },
  };
}
