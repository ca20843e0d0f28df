/** Loads the services of proto/ once: definitions for servers, clients and reflection. */
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { fromJSON, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';
import protobuf from 'protobufjs';

/** The directory is next to `src/` in the sources, and next to `dist/` in a build. */
const DIR = fileURLToPath(new URL('../../../proto', import.meta.url));

const FILES = ['observer/observer.proto', 'peer/peer.proto', 'egress/v1/egress.proto', 'grpc/health/v1/health.proto'];

const root = new protobuf.Root();
// Imports are relative to the top directory; google's own files come with the library.
root.resolvePath = (_origin, target) => (isAbsolute(target) ? target : join(DIR, target));
root.loadSync(
  FILES.map((f) => join(DIR, f)),
  { keepCase: true },
);

const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: false, arrays: false, oneofs: false };

/** messages.ts describes the effect of the options. */
export const definitions: PackageDefinition = fromJSON(root.toJSON(), OPTIONS);

/** The same, with numbers for 64-bit numbers. */
let numeric: PackageDefinition | undefined;

/** Encodes a message. Missing fields are omitted. */
export function encode(name: string, message: object): Buffer {
  const { serialize } = definitions[name] as MessageTypeDefinition<object, object>;
  return serialize(message);
}

/** Decodes a message. @throws Error if the bytes are none */
export function decode<M>(name: string, bytes: Buffer): M {
  const { deserialize } = definitions[name] as MessageTypeDefinition<object, object>;
  return deserialize(bytes) as M;
}

/**
 * Decodes a message with its 64-bit numbers as numbers, exact below 2^53: for messages of thousands of them, since their
 * texts cost more than all the rest. @throws Error if the bytes are none
 */
export function decodeNumbers<M>(name: string, bytes: Buffer): M {
  numeric ??= fromJSON(root.toJSON(), { ...OPTIONS, longs: Number });
  const { deserialize } = numeric[name] as MessageTypeDefinition<object, object>;
  return deserialize(bytes) as M;
}

/** The number of a field. */
export function fieldNumber(message: string, field: string): number {
  const { fields } = root.lookupType(message);
  return (fields[field] as protobuf.Field).id;
}

function service(name: string): ServiceDefinition {
  return definitions[name] as unknown as ServiceDefinition;
}

export const OBSERVER = service('observer.Observer');
export const PEER = service('peer.Peer');
export const EGRESS = service('egress.v1.Egress');
export const HEALTH = service('grpc.health.v1.Health');
