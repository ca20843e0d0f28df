/** The sink of OTLP, with the transport that was asked for. */
import type { OtlpSpec } from '../base/spec.js';
import { OtlpSink } from './otlp.js';
import { OtlpGrpc } from './otlp-grpc.js';
import { OtlpHttp } from './otlp-http.js';

export function otlpSink(spec: OtlpSpec): OtlpSink {
  return new OtlpSink(spec.transport === 'grpc' ? new OtlpGrpc(spec) : new OtlpHttp(spec));
}
