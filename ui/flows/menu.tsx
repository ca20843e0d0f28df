/** A small dialog with the chips that a line offers: to leave out, or to see nothing else. */
import { signal } from '@preact/signals';
import { type Chip, CHIP_KEYS, chipText } from '../../src/ui/wire/chips.js';
import { Dialog } from '../parts/overlay.js';
import { shown } from '../parts/words.js';
import { addChip } from '../state/url.js';

interface Offer {
  readonly not: boolean;
  readonly chips: readonly Chip[];
}

const offer = signal<Offer | undefined>(undefined);
/** Chips that are offered: each has a digit. */
const MOST = 9;

export function offerChips(not: boolean, chips: readonly Chip[]): void {
  if (chips.length > 0) offer.value = { not, chips: chips.slice(0, MOST) };
}

const close = () => void (offer.value = undefined);

export function ChipMenu() {
  return offer.value ? <Menu {...offer.value} /> : null;
}

function Menu({ not, chips }: Offer) {
  const choose = (chip: Chip | undefined) => {
    if (!chip) return;
    close();
    addChip(not ? { ...chip, not: true } : chip);
  };
  const onKeyDown = (e: KeyboardEvent) => {
    const menu = e.currentTarget as HTMLElement;
    const buttons = [...menu.querySelectorAll<HTMLButtonElement>('button')];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[e.key];
    if (step !== undefined) buttons[(at + step + buttons.length) % buttons.length]?.focus();
    else if (/^[1-9]$/.test(e.key)) choose(chips[Number(e.key) - 1]);
    else return;
    e.preventDefault();
  };
  return (
    <Dialog title={not ? 'Leave out' : 'Show only'} onClose={close} class="chip-dialog">
      {/* biome-ignore lint/a11y/noStaticElementInteractions: more keys for the buttons in it */}
      <div class="chip-menu" onKeyDown={onKeyDown}>
        {chips.map((chip, n) => (
          <button type="button" key={chipText(chip)} autofocus={n === 0} onClick={() => choose(chip)}>
            <kbd>{n + 1}</kbd>
            <span class="chip-text">{shown(chipText(chip), 70)}</span>
            <span class="about">{CHIP_KEYS[chip.key]?.replace(/[,:].*/, '')}</span>
          </button>
        ))}
      </div>
    </Dialog>
  );
}
