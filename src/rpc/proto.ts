/** The services of proto/, loaded once: definitions for the server, the client and reflection. */
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { fromJSON, type PackageDefinition } from '@grpc/proto-loader';
import protobuf from 'protobufjs';

/** Beside `src/` in the sources, beside `dist/` in a build. */
const DIR = fileURLToPath(new URL('../../../proto', import.meta.url));

const FILES = ['observer/observer.proto', 'peer/peer.proto', 'egress/v1/egress.proto', 'grpc/health/v1/health.proto'];

const root = new protobuf.Root();
// Imports are written from the directory's top; google's own files come with the library.
root.resolvePath = (_origin, target) => (isAbsolute(target) ? target : join(DIR, target));
root.loadSync(
  FILES.map((f) => join(DIR, f)),
  { keepCase: true },
);

/** See messages.ts for what the options make of the messages. */
export const definitions: PackageDefinition = fromJSON(root.toJSON(), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: false,
  arrays: false,
  oneofs: false,
});

function service(name: string): ServiceDefinition {
  return definitions[name] as unknown as ServiceDefinition;
}

export const OBSERVER = service('observer.Observer');
export const PEER = service('peer.Peer');
export const EGRESS = service('egress.v1.Egress');
export const HEALTH = service('grpc.health.v1.Health');
