/** The holders of certificates. */
export type Holder = 'agent' | 'relay' | 'client' | 'ui';
