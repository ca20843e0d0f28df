/** Where an arrow key leads from a node. */
import type { Box } from './geometry.js';

export type Arrow = 'ArrowUp' | 'ArrowDown' | 'ArrowLeft' | 'ArrowRight';

interface Boxed {
  readonly key: string;
  readonly box: Box;
}

/** @returns undefined: there is nothing in this direction */
export function stepFrom(boxes: readonly Boxed[], key: string, arrow: Arrow): string | undefined {
  const from = boxes.find((b) => b.key === key)?.box;
  if (!from) return boxes[0]?.key;
  const isUpright = arrow === 'ArrowUp' || arrow === 'ArrowDown';
  const sign = arrow === 'ArrowUp' || arrow === 'ArrowLeft' ? -1 : 1;
  let best: { readonly key: string; readonly cost: number } | undefined;
  for (const { key: other, box } of boxes) {
    if (other === key) continue;
    const across = box.x - from.x;
    const down = box.y + box.h / 2 - from.y - from.h / 2;
    const ahead = (isUpright ? down : across) * sign;
    const aside = Math.abs(isUpright ? across : down);
    if (ahead <= 0) continue;
    // Up and down stay in the column; left and right go to the next column first, and there to who is nearest.
    if (isUpright && aside > from.w / 2) continue;
    const cost = isUpright ? ahead + aside : ahead * 20 + aside;
    if (!best || cost < best.cost) best = { key: other, cost };
  }
  return best?.key;
}
