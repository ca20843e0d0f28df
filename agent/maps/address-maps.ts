/** The maps `addresses` (the owners of addresses) and `tunnels` (what nodes unwrap). */
import { changedKeys } from '../../src/identity/shared-map.js';
import { type EntryKind, type EntryPlan, planEntries } from '../../src/image/plan/entries.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import { type Tunnel, tunnelKey } from '../../src/net/tunnels.js';
import { type Address, ADDRESS, AddressBook } from './books/address-book.js';
import * as encode from './tables/encode.js';
import type { Leftovers } from './books/leftovers.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import type { MapWriter } from './writer.js';

/** During an update, a tunnel is denied if the old or the new Image denies it. */
const TUNNEL: EntryKind<Tunnel> = {
  same: (a, b) => a.allowed === b.allowed,
  both: (from, to) => (from.allowed ? to : from),
};

export interface AddressPlan {
  readonly addresses: EntryPlan<Address>;
  readonly tunnels: EntryPlan<Tunnel>;
}

/** The content of the maps, except for single entries that the leftovers record. */
interface MapContent {
  readonly addresses: ReadonlyMap<string, Address>;
  readonly tunnels: ReadonlyMap<string, Tunnel>;
}

export class AddressMaps {
  readonly #maps: Record<string, BpfMap>;
  readonly #writer: MapWriter;
  readonly #leftovers: Leftovers;
  readonly #book: AddressBook;
  #content: MapContent;

  constructor(maps: Record<string, BpfMap>, writer: MapWriter, leftovers: Leftovers) {
    this.#maps = maps;
    this.#writer = writer;
    this.#leftovers = leftovers;
    this.#content = this.#read();
    this.#book = new AddressBook(this.#content.addresses);
  }

  /** Plans what an update writes, and what it leaves for later. Writes nothing. */
  plan(image: Image, bindings: readonly EndpointBinding[]): AddressPlan {
    const [content, leftovers] = [this.#content, this.#leftovers];
    const addresses = this.#book.update(image.nodes, bindings);
    return {
      addresses: planEntries(content.addresses, addresses, leftovers.addresses.values, ADDRESS),
      tunnels: planEntries(content.tunnels, image.tunnels, leftovers.tunnels.values, TUNNEL),
    };
  }

  /** Writes a plan's entries. Returns their number. */
  write({ addresses, tunnels }: AddressPlan): number {
    return this.#writer.writeAddresses(addresses.before) + this.#writer.writeTunnels(tunnels.before.map(([, t]) => t));
  }

  /** Records an update that is in force. */
  commit(plan: AddressPlan, image: Image, moment: number): void {
    const [content, leftovers] = [this.#content, this.#leftovers];
    const next = { addresses: this.#book.addresses, tunnels: image.tunnels };
    leftovers.addresses.replace(
      plan.addresses.shown,
      moment,
      (ip) => content.addresses.get(ip) === next.addresses.get(ip),
    );
    leftovers.tunnels.replace(plan.tunnels.shown, moment, (key) => content.tunnels.get(key) === next.tunnels.get(key));
    this.#content = next;
  }

  /** Brings entries written up to a moment into their final state. Returns how many changed. */
  settle(moment: number): number {
    const { addresses, tunnels } = this.#content;
    const [leftovers, writer] = [this.#leftovers, this.#writer];
    const due = leftovers.addresses.takeUntil(moment).map(([ip]) => [ip, addresses.get(ip)] as const);
    const [updated, removed] = [[] as Tunnel[], [] as Tunnel[]];
    for (const [key, tunnel] of leftovers.tunnels.takeUntil(moment)) {
      const wanted = tunnels.get(key);
      if (wanted) updated.push(wanted);
      else removed.push(tunnel);
    }
    return (
      writer.writeAddresses(due.flatMap(([ip, now]) => (now ? [[ip, now] as const] : []))) +
      writer.removeAddresses(due.flatMap(([ip, now]) => (now ? [] : [ip]))) +
      writer.writeTunnels(updated) +
      writer.removeTunnels(removed)
    );
  }

  /** Reads the maps again. */
  readBack(): void {
    this.#content = this.#read();
  }

  /** Removes an earlier agent's entries of interfaces without hooks. Call it after an update that is in force. */
  dropStrangers(hooked: ReadonlySet<number>): void {
    const previous = this.#book.addresses;
    if (this.#content.addresses !== previous) return;
    const addresses = this.#book.dropStrangers(hooked);
    const [updated, removed] = [[] as [string, Address][], [] as string[]];
    for (const ip of changedKeys(previous, addresses)) {
      const address = addresses.get(ip);
      if (address) updated.push([ip, address]);
      else removed.push(ip);
    }
    this.#writer.writeAddresses(updated);
    this.#writer.removeAddresses(removed);
    this.#content = { ...this.#content, addresses };
  }

  /** The content that the maps should have. */
  get wanted(): MapContent {
    return this.#content;
  }

  #read(): MapContent {
    const [addresses, tunnels] = [new Map<string, Address>(), new Map<string, Tunnel>()];
    const map = encode.map(this.#maps, 'addresses');
    for (const { keys, values, count } of map.batches()) {
      for (let i = 0; i < count; i++) {
        const { ip, ...address } = encode.readAddress(keys, i * map.keySize, values, i * map.valueSize);
        addresses.set(ip, address);
      }
    }
    const { keySize, valueSize } = encode.map(this.#maps, 'tunnels');
    for (const { keys, values, count } of encode.map(this.#maps, 'tunnels').batches()) {
      for (let i = 0; i < count; i++) {
        const tunnel = encode.readTunnel(keys, i * keySize, values, i * valueSize);
        tunnels.set(tunnelKey(tunnel), tunnel);
      }
    }
    return { addresses, tunnels };
  }
}
