/** Paths of fields: in objects, and in the schemas of src/dialects. */

/** `spec.egress[0].to` → its keys and indices. */
function parts(path: string): (string | number)[] {
  return path.split(/[.[]/).map((part) => (part.endsWith(']') ? Number(part.slice(0, -1)) : part));
}

/** A copy of the object with this field; what is missing on the way is made. */
export function withField(object: object, path: string, value: unknown): object {
  // What stands in it twice becomes two.
  const copy = JSON.parse(JSON.stringify(object)) as Record<string | number, unknown>;
  const way = parts(path);
  const last = way.pop() as string | number;
  let at = copy;
  way.forEach((part, i) => {
    at[part] ??= typeof (way[i + 1] ?? last) === 'number' ? [] : {};
    at = at[part] as Record<string | number, unknown>;
  });
  if (value === undefined) delete at[last];
  else at[last] = value;
  return copy;
}

/** The path with every index 0. */
export const plain = (path: string): string => path.replaceAll(/\[\d+\]/g, '[0]');

/** Paths of a value's parts, itself included. */
export function pathsIn(value: unknown, path: string): string[] {
  if (Array.isArray(value)) return [path, ...value.flatMap((v) => pathsIn(v, `${path}[0]`))];
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, v]) => pathsIn(v, `${path}.${key}`))];
}

interface Schema {
  readonly type?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}

/** Every field that a schema names. */
export function fieldsOf(schema: object, path: string): string[] {
  const { properties, items } = schema as Schema;
  const each = Object.entries(properties ?? {}).flatMap(([key, of]) => [
    `${path}.${key}`,
    ...fieldsOf(of, `${path}.${key}`),
  ]);
  return [...each, ...(items ? fieldsOf(items, `${path}[0]`) : [])];
}

/** Paths of all maps within an object. */
export function mapsIn(value: unknown, path: string): string[] {
  if (Array.isArray(value)) return value.flatMap((v, i) => mapsIn(v, `${path}[${i}]`));
  if (typeof value !== 'object' || value === null) return [];
  return [path, ...Object.entries(value).flatMap(([key, v]) => mapsIn(v, `${path}.${key}`))];
}
