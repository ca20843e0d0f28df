import t from 'tap';
import {
  canonicalAddr,
  canonicalCidr4,
  cidrContains,
  cidrCovers,
  formatBytes16,
  parseAddr,
  parseCidr,
  tryCanonicalAddr,
  tryParseAddr,
  tryParseCidr,
} from '../../src/net/addr.js';
import { parseProtocol, protocolName } from '../../src/net/protocol.js';

t.test('canonical text of addresses', async (t) => {
  const rows: [string, string | undefined][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['fd00:0:0:0:0:0:0:1', 'fd00::1'],
    ['FD00::A', 'fd00::a'],
    ['::', '::'],
    ['::1', '::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::ffff:a00:1', '10.0.0.1'],
    ['64:ff9b::10.0.0.1', '64:ff9b::a00:1'],
    // Read as octal by some, as decimal by others, as 32-bit numbers by a third.
    ['010.0.0.1', undefined],
    ['10.0.0.01', undefined],
    ['10.1', undefined],
    ['0x0a.0.0.1', undefined],
    ['167772161', undefined],
    ['10.0.0.256', undefined],
    ['10.0.0', undefined],
    ['10.0.0.1.', undefined],
    ['10.0.0.1.2', undefined],
    ['10..0.1', undefined],
    [' 10.0.0.1', undefined],
    ['10.0.0.1/32', undefined],
    ['fe80::1%eth0', undefined],
    ['::ffff:010.0.0.1', undefined],
    ['1::2::3', undefined],
    [':::', undefined],
    ['12345::', undefined],
    ['1:2:3:4:5:6:7:8:9', undefined],
    ['1:2:3:4:5:6:7', undefined],
    ['', undefined],
    ['localhost', undefined],
  ];
  for (const [text, expected] of rows) t.equal(tryCanonicalAddr(text), expected, JSON.stringify(text));
  t.throws(() => canonicalAddr('010.0.0.1'), { code: 'USAGE' });
});

t.test('canonical text of prefixes', async (t) => {
  const rows: [string, string | undefined][] = [
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3', '10.1.2.3/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['1.2.3.4/0', '0.0.0.0/0'],
    ['255.255.255.255/31', '255.255.255.254/31'],
    ['128.0.0.1/1', '128.0.0.0/1'],
    ['fd00::1/64', 'fd00::/64'],
    ['fd00:0:0:ffff::1/50', 'fd00:0:0:c000::/50'],
    ['::/0', '::/0'],
    ['fd00::1', 'fd00::1/128'],
    ['::ffff:10.1.2.3/104', '10.0.0.0/8'],
    ['::ffff:0:0/96', '0.0.0.0/0'],
    ['::ffff:0:0/95', undefined],
    ['10.0.0.0/33', undefined],
    ['10.0.0.0/08', undefined],
    ['10.0.0.0/-1', undefined],
    ['10.0.0.0/+8', undefined],
    ['10.0.0.0/', undefined],
    ['10.0.0.0/8/8', undefined],
    ['fd00::/129', undefined],
    ['/8', undefined],
    ['10.0/16', undefined],
  ];
  for (const [text, expected] of rows) t.equal(tryParseCidr(text)?.text, expected, JSON.stringify(text));
  t.throws(() => parseCidr('10.0/16'), { code: 'USAGE' });
  for (const [text, expected] of rows) {
    const canonical = text === expected && !text.includes(':');
    t.equal(canonicalCidr4(text) >= 0, canonical, `${JSON.stringify(text)} is ${canonical ? '' : 'not '}canonical`);
  }
  t.equal(canonicalCidr4('255.255.255.254/31'), 0xff_ff_ff_fe * 64 + 31);
  t.equal(canonicalCidr4('0.0.0.0/0'), 0);
});

t.test('bytes are 16, IPv4 is mapped', async (t) => {
  t.same([...parseAddr('1.2.3.4').bytes], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4]);
  t.equal(formatBytes16(parseAddr('200.2.3.255').bytes, 4), '200.2.3.255');
  t.equal(formatBytes16(parseAddr('fd00::2:1').bytes, 6), 'fd00::2:1');
  t.equal(tryParseAddr('fd00::1')?.family, 6);
});

t.test('membership at the edges', async (t) => {
  const inside = (cidr: string, ip: string) => cidrContains(parseCidr(cidr), parseAddr(ip));
  t.ok(inside('10.0.0.0/9', '10.127.255.255'));
  t.notOk(inside('10.0.0.0/9', '10.128.0.0'));
  t.ok(inside('10.0.0.0/31', '10.0.0.1'));
  t.notOk(inside('10.0.0.0/31', '10.0.0.2'));
  t.ok(inside('0.0.0.0/0', '255.0.0.1'));
  t.notOk(inside('0.0.0.0/0', '::1'));
  t.notOk(inside('::/0', '10.0.0.1'), 'no IPv4 address is in ::/0');
  t.ok(inside('fd00::/65', 'fd00::7fff:ffff:ffff:ffff'));
  t.notOk(inside('fd00::/65', 'fd00::8000:0:0:0'));
  t.ok(cidrCovers(parseCidr('10.0.0.0/8'), parseCidr('10.3.0.0/16')));
  t.notOk(cidrCovers(parseCidr('10.3.0.0/16'), parseCidr('10.0.0.0/8')));
});

t.test('protocols', async (t) => {
  t.equal(parseProtocol('TCP'), 6);
  t.equal(parseProtocol('icmpv6'), 58);
  t.equal(parseProtocol('47'), 47);
  t.equal(parseProtocol(132), 132);
  t.equal(parseProtocol(256), undefined);
  t.equal(parseProtocol('256'), undefined);
  t.equal(parseProtocol('06'), undefined);
  t.equal(parseProtocol('constructor'), undefined);
  t.equal(protocolName(132), 'SCTP');
  t.equal(protocolName(200), '200');
});
