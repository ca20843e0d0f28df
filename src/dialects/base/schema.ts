/** Shape checks by JSON schema: turns ajv's errors into faults with Kubernetes' field paths. */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { Fault } from './dialect.js';

let ajv: Ajv | undefined;

/** Compiles its schema at the first call: most processes meet objects of few kinds, or of none. */
export type Validator = () => ValidateFunction;

export function compileSchema(schema: object): Validator {
  let validate: ValidateFunction | undefined;
  return () => {
    ajv ??= new Ajv({ allErrors: true, strict: true, allowUnionTypes: true });
    validate ??= ajv.compile(schema);
    return validate;
  };
}

/** Faults of an object's shape; none if it fits. */
export function shapeFaults(validator: Validator, object: unknown): Fault[] {
  const validate = validator();
  if (validate(object)) return [];
  return (validate.errors ?? []).map(toFault);
}

function toFault(error: ErrorObject): Fault {
  const field = fieldPath(error.instancePath);
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(params.additionalProperty);
      return fault(
        join(field, key),
        'is not a field of this object',
        'check its spelling and its indentation, or remove it',
      );
    }
    case 'required':
      return fault(join(field, String(params.missingProperty)), 'is missing', 'add it');
    case 'enum':
      return fault(
        field,
        `must be one of ${(params.allowedValues as unknown[]).join(', ')}`,
        'correct the value; letter case counts',
      );
    case 'type': {
      const type = Array.isArray(params.type) ? params.type.join(' or ') : String(params.type);
      const hint =
        type === 'string'
          ? 'put the value in quotes'
          : type === 'array'
            ? 'write it as a list, each item with a dash'
            : undefined;
      return fault(field, `must be ${article(type)}`, hint ?? 'correct the value');
    }
    default:
      return fault(field, error.message ?? 'has the wrong shape');
  }
}

function fault(field: string, message: string, hint?: string): Fault {
  return { severity: 'error', field, message, hint };
}

function article(type: string): string {
  const name = type.replace('array', 'list').replace('object', 'map').replace('integer', 'whole number');
  return `a ${name}`;
}

/** Converts a JSON pointer to a field path: `/spec/egress/0/to` → `spec.egress[0].to`. */
export function fieldPath(pointer: string): string {
  let path = '';
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    path = /^\d+$/.test(key) ? `${path}[${key}]` : join(path, key);
  }
  return path;
}

function join(path: string, key: string): string {
  if (!/^[A-Za-z_][\w-]*$/.test(key)) return `${path}[${JSON.stringify(key)}]`;
  return path === '' ? key : `${path}.${key}`;
}

/**
 * Removes nulls, which mean absence in Kubernetes, except as elements of a list. Returns the same object if there is
 * none.
 */
export function withoutNulls(value: unknown): unknown {
  return hasNulls(value) ? copyWithoutNulls(value) : value;
}

/** A separate check, since hardly any object has nulls and a list may have 100,000 items. */
function hasNulls(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (Array.isArray(value)) return value.some(hasNulls);
  for (const key of Object.keys(value)) {
    const v = (value as Record<string, unknown>)[key];
    if (v === null || (typeof v === 'object' && hasNulls(v))) return true;
  }
  return false;
}

function copyWithoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, v]) => v !== null);
  return Object.fromEntries(kept.map(([key, v]) => [key, withoutNulls(v)]));
}
