import type { Arrival, Attack } from './attack.js';
import { checksum } from '../netns/frames.js';
import { addr, tcp, udp } from './craft.js';

const NEEDS_CSUM = 1;

/** struct virtio_net_hdr (linux/virtio_net.h), little endian. */
export function vnetHeader(f: {
  flags?: number;
  gso?: number;
  hdrLen?: number;
  gsoSize?: number;
  start?: number;
  offset?: number;
}): Buffer {
  const b = Buffer.alloc(10);
  b[0] = f.flags ?? 0;
  b[1] = f.gso ?? 0;
  b.writeUInt16LE(f.hdrLen ?? 0, 2);
  b.writeUInt16LE(f.gsoSize ?? 0, 4);
  b.writeUInt16LE(f.start ?? 0, 6);
  b.writeUInt16LE(f.offset ?? 0, 8);
  return b;
}

/** A frame whose checksum, filled in behind the filter, will write `value` at `at`. The last two bytes of it are ink. */
export function written(frame: Buffer, start: number, at: number, value: number): Buffer {
  const inked = Buffer.from(frame);
  inked.writeUInt16BE(0, inked.length - 2);
  const without = ~checksum(inked.subarray(start)) & 0xffff;
  let ink = (~value & 0xffff) - without;
  if (ink < 0) ink += 0xffff;
  inked.writeUInt16BE(ink, inked.length - 2);
  return Buffer.concat([vnetHeader({ flags: NEEDS_CSUM, start, offset: at - start }), inked]);
}

/** Turns a device's own checksums off, as devices without such a feature are (SIOCETHTOOL, ETHTOOL_STXCSUM). */
export const CHECKSUMS = `
import array, fcntl
value = array.array("B", struct.pack("II", 0x17, on))
with socket.socket() as s:
    fcntl.ioctl(s, 0x8946, struct.pack("16sP", device.encode(), value.buffer_info()[0]))
`;

export const attack: Attack = {
  name: 'checksum-pen',
  tries: 'Has the kernel fill in a checksum where a port or an address stood, after that was judged.',
  async run(at) {
    await at.bed.nodeProgram(CHECKSUMS, { device: 'eth0', on: 0 });
    at.after(() => at.bed.nodeProgram(CHECKSUMS, { device: 'eth0', on: 1 }));
    const l3 = 14;
    const l4 = l3 + (at.family === 4 ? 20 : 40);
    const ink = Buffer.alloc(2);
    const frames: Buffer[] = [];
    const shape = (to: string, marker: Buffer, make: typeof udp | typeof tcp, port: number) =>
      at.frame(at.address(to), make(at.port(), port, Buffer.concat([marker, ink])));
    const portIs = (port: number) => (a: Arrival) => a.frame.length > l4 + 4 && a.frame.readUInt16BE(l4 + 2) === port;
    for (const [name, make, allowed] of [
      ['UDP', udp, 53],
      ['TCP', tcp, 80],
    ] as const) {
      for (const [from, start] of [
        ['from the header', l4],
        ['from before it', l4 - 12],
        ['from the payload on', l4 - 2],
      ] as const) {
        const marker = at.forbid(`${name}: its port, ${from}`, portIs(443));
        frames.push(written(shape('one', marker, make, allowed), start, l4 + 2, 443));
      }
    }
    // The last two bytes of the destination.
    const end = l3 + (at.family === 4 ? 20 : 40);
    const dstIs = (a: Arrival) => a.frame.subarray(l3, end).includes(addr(at.address('two')));
    for (const start of at.family === 4 ? [20, 22, 30] : [22, 38, 52]) {
      const marker = at.forbid(`the destination, from ${start} on`, dstIs);
      const low = addr(at.address('two')).readUInt16BE(at.family === 4 ? 2 : 14);
      frames.push(written(shape('one', marker, udp, 53), start, end - 2, low));
    }
    // The protocol, and what stands before the port when it is read.
    const protocolAt = at.family === 4 ? l3 + 8 : l3 + 6;
    const proto = at.forbid('the protocol', (a) => a.frame[protocolAt + (at.family === 4 ? 1 : 0)] === 47);
    frames.push(written(shape('one', proto, udp, 53), 20, protocolAt, at.family === 4 ? 0x4000 | 47 : 47 << 8));
    // What ordinary sockets ask for passes.
    const control = at.control('the checksum of UDP itself', 'wire');
    const plain = shape('one', control, udp, 53);
    frames.push(Buffer.concat([vnetHeader({ flags: NEEDS_CSUM, start: l4, offset: 6 }), plain]));
    const tcpControl = at.control('the checksum of TCP itself', 'wire');
    frames.push(
      Buffer.concat([vnetHeader({ flags: NEEDS_CSUM, start: l4, offset: 16 }), shape('one', tcpControl, tcp, 80)]),
    );
    await at.send(frames, { vnet: true });
  },
};
