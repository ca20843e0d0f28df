/** The options about names and DNS, and what they mean to the programs. */
import { ENUMS } from '../../src/image/layout.gen.js';
import type { DnsRefusal } from '../../src/ir/types.js';
import type { NameSettings } from './memory.js';

export const HTTPS_RECORDS = ['allow', 'strip', 'deny'] as const;
export const ECH = ['allow', 'deny-known'] as const;
export const DNS_FLOWS = ['off', 'denied', 'all'] as const;

export interface NameOptions {
  /** Shortest time for which an address stays learned, and what is added to its TTL; seconds. */
  readonly nameTtlMin: number;
  readonly nameTtlExtra: number;
  /** How a query that no rule allows is answered. */
  readonly dnsRefusal: DnsRefusal;
  /** What becomes of queries for HTTPS records (type 65): `strip` answers that there are none. */
  readonly httpsRecords: (typeof HTTPS_RECORDS)[number];
  /** What becomes of hellos whose server name is encrypted, where it decides: `deny-known` denies those that are real. */
  readonly ech: (typeof ECH)[number];
  /** Which queries are reported. */
  readonly dnsFlows: (typeof DNS_FLOWS)[number];
}

export const NAME_DEFAULTS: NameOptions = {
  nameTtlMin: 10,
  nameTtlExtra: 30,
  dnsRefusal: 'refused',
  httpsRecords: 'allow',
  ech: 'allow',
  dnsFlows: 'denied',
};

const O = ENUMS.ea_name_options;
const REFUSAL = { refused: 0, nxdomain: O.EA_DNS_REFUSE_NXDOMAIN, nodata: O.EA_DNS_REFUSE_NODATA };
const HTTPS = { allow: 0, strip: O.EA_DNS_STRIP_HTTPS, deny: O.EA_DNS_DENY_HTTPS };
const HELLOS = { allow: 0, 'deny-known': O.EA_ECH_DENY_KNOWN };
const EVENTS = { off: 0, denied: O.EA_DNS_EVENTS_DENIED, all: O.EA_DNS_EVENTS_ALL };

/** The options as the programs read them. @param cpus possible CPUs */
export function nameSettings(options: NameOptions, cpus: number): NameSettings {
  return {
    ttlMin: options.nameTtlMin,
    ttlExtra: options.nameTtlExtra,
    flags: REFUSAL[options.dnsRefusal] | HTTPS[options.httpsRecords] | HELLOS[options.ech] | EVENTS[options.dnsFlows],
    cpus,
  };
}
