/** The texts of names as the tables have them: three bytes in 16 bits (bpf/name_types.h, struct ea_name). */
import * as L from '../../src/image/layout.gen.js';

const { offset } = L.STRUCTS.ea_name.fields.text;
const { EA_NAME_SYMBOLS, EA_NAME_UNITS } = L.ENUMS.ea_name_sizes;
/** By the number of the symbol, enum ea_symbols. */
const CODES = Buffer.from('?.abcdefghijklmnopqrstuvwxyz0123456789-_', 'latin1');
const IN_UNIT = 3;

/** Reads the text of a name. @param name place of its struct @param length of the text, as the struct says */
export function unpackName(names: Buffer, name: number, length: number): string {
  const bytes = Buffer.alloc(Math.min(length, EA_NAME_UNITS * IN_UNIT));
  let unit = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (i % IN_UNIT === 0) unit = names.readUInt16LE(name + offset + (i / IN_UNIT) * 2);
    bytes[bytes.length - 1 - i] = CODES[unit % EA_NAME_SYMBOLS] as number;
    unit = Math.floor(unit / EA_NAME_SYMBOLS);
  }
  return bytes.toString('latin1');
}
