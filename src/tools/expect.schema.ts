/**
 * JSON schema of a file of expected verdicts. A row in short form is a string, or a map with one entry, since YAML
 * reads `a: b` as a map.
 */
const verdict = { type: 'string', enum: ['allow', 'deny', 'partial'] } as const;

export const expectSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['manifests', 'tests'],
  properties: {
    manifests: { type: ['string', 'array'], items: { type: 'string', minLength: 1 }, minLength: 1, minItems: 1 },
    names: { type: 'object' },
    tests: { type: 'array', items: { type: ['string', 'object'] } },
  },
} as const;

export const rowSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['from', 'to', 'expect'],
  properties: {
    name: { type: 'string' },
    from: { type: 'string', minLength: 1 },
    to: { type: 'string', minLength: 1 },
    port: { type: ['integer', 'string'], minimum: 0, maximum: 65535 },
    query: { type: 'string', minLength: 1 },
    sni: { type: 'string', minLength: 1 },
    http: { type: 'string', minLength: 1 },
    headers: { type: 'array', items: { type: 'string', minLength: 1 } },
    expect: verdict,
    rule: { type: 'string', minLength: 1 },
    audit: verdict,
  },
} as const;
