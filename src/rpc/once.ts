/**
 * Work on an answer that is done once, however many are given it. With fifty readers it is most of what a flow costs; of a crowd
 * that asks for the same it is most of what the crowd costs.
 */
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

/** The service with methods whose answers are encoded once each, whoever else is given the same one; the bytes stay as long as it. */
export function encodedOnce(service: ServiceDefinition, ...methods: string[]): ServiceDefinition {
  const definitions = Object.entries(service).map(([name, definition]) => {
    if (!methods.includes(name)) return [name, definition];
    const encoded = new WeakMap<object, Buffer>();
    const responseSerialize = (message: object): Buffer => {
      let bytes = encoded.get(message);
      if (!bytes) encoded.set(message, (bytes = definition.responseSerialize(message)));
      return bytes;
    };
    return [name, { ...definition, responseSerialize }];
  });
  return Object.fromEntries(definitions) as ServiceDefinition;
}
