/** Work on a flow's message that is done once, however many read the flow. With fifty readers it is most of what a flow costs. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import type { Flow } from '../flow/types.js';

/** @param make a message of a flow, which nobody changes */
export function madeOnce<T extends object>(make: (flow: Flow) => T): (flow: Flow) => T {
  const made = new WeakMap<Flow, T>();
  return (flow) => {
    let message = made.get(flow);
    if (!message) made.set(flow, (message = make(flow)));
    return message;
  };
}

/** The service with a method whose answers are encoded once each: as bytes they stay as long as they do themselves. */
export function encodedOnce(service: ServiceDefinition, method: string): ServiceDefinition {
  const definition = service[method];
  if (!definition) throw new Error(`the service has no ${method}`);
  const encoded = new WeakMap<object, Buffer>();
  const responseSerialize = (message: object): Buffer => {
    let bytes = encoded.get(message);
    if (!bytes) encoded.set(message, (bytes = definition.responseSerialize(message)));
    return bytes;
  };
  return { ...service, [method]: { ...definition, responseSerialize } };
}
