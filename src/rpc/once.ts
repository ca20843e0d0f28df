/**
 * Answers that are computed once for all callers. With fifty readers, this is most of the cost of a flow; with many
 * callers of the same query, most of their cost.
 */
import type { ServiceDefinition } from '@grpc/grpc-js';
import type { Flow } from '../flow/event/types.js';

/** Caches a message by flow. @param make makes the message, which nobody may modify */
export function madeOnce<T extends object>(make: (flow: Flow) => T): (flow: Flow) => T {
  const made = new WeakMap<Flow, T>();
  return (flow) => {
    let message = made.get(flow);
    if (!message) made.set(flow, (message = make(flow)));
    return message;
  };
}

/**
 * The service with methods that encode each answer object once, however many callers get it. The bytes are kept as long
 * as the object. An answer that is bytes already is sent as it is.
 */
export function encodedOnce(service: ServiceDefinition, ...methods: string[]): ServiceDefinition {
  const definitions = Object.entries(service).map(([name, definition]) => {
    if (!methods.includes(name)) return [name, definition];
    const encoded = new WeakMap<object, Buffer>();
    const responseSerialize = (message: object): Buffer => {
      if (Buffer.isBuffer(message)) return message;
      let bytes = encoded.get(message);
      if (!bytes) encoded.set(message, (bytes = definition.responseSerialize(message)));
      return bytes;
    };
    return [name, { ...definition, responseSerialize }];
  });
  return Object.fromEntries(definitions) as ServiceDefinition;
}
