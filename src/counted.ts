/** A number with a noun: `1 problem`, `2 problems`, `0 problems`. @param noun singular, with a plural in -s */
export function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
